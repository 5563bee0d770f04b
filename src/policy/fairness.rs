//! Does everybody who has something to say get the same?
//!
//! In: what is read of each connection, and the time. Out: three sums of each second, of which Jain's index is
//! made, and a mean over all seconds. Never here: a judgement of a connection.

use std::time::Duration;

/// What was read in one second, of those connections of which anything was read in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) connections: u64,
    pub(crate) bytes: u64,
    /// The sum of the squares of what each connection got. Two of 2³² bytes are beyond 64 bits.
    pub(crate) squares: u128,
}

impl Shares {
    /// A connection got `more` besides `before`. Returns what it has now: 4 GiB at most.
    #[inline]
    fn add(&mut self, before: u32, more: usize) -> u32 {
        let most = u64::from(u32::MAX);
        let before = u64::from(before);
        let after = most.min(before + more as u64);
        self.connections += u64::from(before == 0);
        self.bytes += after - before;
        // after² - before².
        self.squares += u128::from((after - before) * (after + before));
        after as u32
    }

    /// Of other connections, in the same second.
    pub(crate) fn merge(&mut self, others: &Self) {
        self.connections += others.connections;
        self.bytes += others.bytes;
        self.squares += others.squares;
    }

    /// Of how many connections each would have got the same, had the others got nothing.
    fn effective(&self) -> f64 {
        let bytes = self.bytes as f64;
        bytes * bytes / self.squares as f64
    }

    /// Jain's index of fairness, (Σx)² / (n · Σx²): 1 if all got the same, 1/n if one got all.
    ///
    /// R. Jain, D. Chiu, W. Hawe: A Quantitative Measure of Fairness and Discrimination, DEC-TR-301, 1984.
    pub(crate) fn index(&self) -> Option<f64> {
        (self.connections > 0).then(|| self.effective() / self.connections as f64)
    }
}

/// What a connection got in the second in which it was last read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    second: u32,
    bytes: u32,
}

/// The index over all seconds in which several were read: each counts by its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Mean {
    effective: f64,
    connections: f64,
}

impl Mean {
    /// A second is over. Who was alone in it had nobody to be unfair to.
    fn add(&mut self, shares: &Shares) {
        if shares.connections > 1 {
            self.effective += shares.effective();
            self.connections += shares.connections as f64;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.effective += other.effective;
        self.connections += other.connections;
    }

    pub(crate) fn index(&self) -> Option<f64> {
        (self.connections > 0.0).then(|| self.effective / self.connections)
    }
}

/// One reactor's seconds: the present one, the one before it in which anything was read, and all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Fairness {
    second: u32,
    shares: Shares,
    last_second: u32,
    last: Shares,
    mean: Mean,
}

/// As words, for whoever passes it on.
pub(crate) const WORDS: usize = 12;

impl Fairness {
    /// A turn begins.
    pub(crate) fn handle_time(&mut self, since_start: Duration) {
        let second = since_start.as_secs() as u32;
        if second == self.second {
            return;
        }
        if self.shares.connections > 0 {
            self.mean.add(&self.shares);
            (self.last_second, self.last) = (self.second, self.shares);
            self.shares = Shares::default();
        }
        self.second = second;
    }

    /// `bytes` were read of the connection that has this share.
    #[inline]
    pub(crate) fn handle_read(&mut self, share: &mut Share, bytes: usize) {
        if share.second != self.second {
            *share = Share {
                second: self.second,
                bytes: 0,
            };
        }
        share.bytes = self.shares.add(share.bytes, bytes);
    }

    /// The one in which the last turn began.
    pub(crate) fn second(&self) -> u32 {
        self.second
    }

    /// What was read in this second; nothing is known of seconds further back than the last ones.
    pub(crate) fn of(&self, second: u32) -> Shares {
        match second {
            second if second == self.second => self.shares,
            second if second == self.last_second => self.last,
            _ => Shares::default(),
        }
    }

    /// Over all seconds before this one.
    pub(crate) fn mean_until(&self, second: u32) -> Mean {
        let mut mean = self.mean;
        if second != self.second {
            mean.add(&self.shares);
        }
        mean
    }

    pub(crate) fn to_words(self) -> [u64; WORDS] {
        let of = |shares: Shares| {
            let squares = [shares.squares as u64, (shares.squares >> 64) as u64];
            [shares.connections, shares.bytes, squares[0], squares[1]]
        };
        let ([a, b, c, d], [e, f, g, h]) = (of(self.shares), of(self.last));
        let seconds = [self.second, self.last_second].map(u64::from);
        let means = [self.mean.effective, self.mean.connections].map(f64::to_bits);
        [
            seconds[0], a, b, c, d, seconds[1], e, f, g, h, means[0], means[1],
        ]
    }

    pub(crate) fn from_words(words: [u64; WORDS]) -> Self {
        let of = |words: &[u64]| Shares {
            connections: words[0],
            bytes: words[1],
            squares: u128::from(words[2]) | u128::from(words[3]) << 64,
        };
        Self {
            second: words[0] as u32,
            shares: of(&words[1..5]),
            last_second: words[5] as u32,
            last: of(&words[6..10]),
            mean: Mean {
                effective: f64::from_bits(words[10]),
                connections: f64::from_bits(words[11]),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What came of reads of connections, each given by its number, in one second.
    fn of(reads: &[(usize, usize)]) -> Shares {
        let mut fairness = Fairness::default();
        let mut shares = [Share::default(); 8];
        for (who, bytes) in reads {
            fairness.handle_read(&mut shares[*who], *bytes);
        }
        fairness.of(0)
    }

    /// By the formula.
    fn jain(x: &[u64]) -> f64 {
        let x: Vec<f64> = x.iter().map(|x| *x as f64).filter(|x| *x > 0.0).collect();
        let sum: f64 = x.iter().sum();
        let squares: f64 = x.iter().map(|x| x * x).sum();
        sum * sum / (x.len() as f64 * squares)
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs()
    }

    #[test]
    fn all_alike_is_1_and_one_with_all_is_1_of_so_many() {
        assert_eq!(of(&[(0, 500), (1, 500), (2, 500)]).index(), Some(1.0));
        let one_with_all = of(&[(0, 1 << 30), (1, 1), (2, 1), (3, 1)]).index().unwrap();
        assert!((one_with_all - 0.25).abs() < 1e-6, "{one_with_all}");
    }

    #[test]
    fn what_counts_is_what_a_connection_got_and_not_in_how_many_reads() {
        let in_pieces = of(&[(0, 100), (1, 300), (0, 100), (0, 100)]);
        assert_eq!(in_pieces.index(), Some(1.0));
        assert_eq!(in_pieces.connections, 2);
    }

    #[test]
    fn who_says_nothing_does_not_count_and_where_nobody_does_there_is_no_index() {
        assert_eq!(of(&[(5, 7)]).index(), Some(1.0));
        assert_eq!(of(&[]).index(), None);
        assert_eq!(Mean::default().index(), None);
    }

    #[test]
    fn a_second_is_known_when_it_is_over_and_until_another_one_with_reads_is() {
        let mut fairness = Fairness::default();
        let (mut one, mut other) = (Share::default(), Share::default());
        fairness.handle_time(s(7));
        fairness.handle_read(&mut one, 10);
        fairness.handle_time(s(8));
        assert_eq!(fairness.second(), 8);
        assert_eq!(fairness.of(8), Shares::default());
        assert_eq!(fairness.of(7).bytes, 10);
        fairness.handle_read(&mut one, 3);
        fairness.handle_read(&mut other, 3);
        assert_eq!(fairness.of(8).index(), Some(1.0), "what was is forgotten");
        fairness.handle_time(s(100));
        fairness.handle_time(s(200));
        assert_eq!(fairness.of(7), Shares::default());
        assert_eq!(fairness.of(8).bytes, 6, "nothing was read since");
    }

    #[test]
    fn seconds_count_by_their_connections_and_not_where_one_was_alone() {
        let mut fairness = Fairness::default();
        let mut shares = [Share::default(); 3];
        // 1/2 of two (all but), all of three, and one alone.
        for (second, reads) in [(0, [1, 1 << 31, 0]), (1, [5, 5, 5]), (2, [9, 0, 0])] {
            fairness.handle_time(s(second));
            for (share, bytes) in shares.iter_mut().zip(reads).filter(|(_, n)| *n > 0) {
                fairness.handle_read(share, bytes);
            }
        }
        let until = |second| fairness.mean_until(second).index().unwrap();
        assert!((until(2) - 4.0 / 5.0).abs() < 1e-6, "{}", until(2));
        assert_eq!(until(2), until(3), "who was alone");
        assert_eq!(fairness.mean_until(0), fairness.mean);
    }

    #[test]
    fn the_index_of_several_reactors_counts_by_their_connections() {
        let mean = |effective, connections| Mean {
            effective,
            connections,
        };
        let mut all = mean(1.0, 2.0);
        all.merge(&mean(3.0, 4.0));
        assert_eq!(all, mean(4.0, 6.0));
    }

    #[test]
    fn no_number_is_too_large() {
        let mut fairness = Fairness::default();
        let mut shares = [Share::default(); 4];
        for share in &mut shares {
            for _ in 0..3 {
                fairness.handle_read(share, 3 << 30);
            }
        }
        assert_eq!(fairness.of(0).index(), Some(1.0));
        let again = Fairness::from_words(fairness.to_words());
        assert_eq!(again, fairness);
    }

    proptest! {
        #[test]
        fn the_index_is_that_of_the_formula(
            reads in prop::collection::vec((0usize..8, 1usize..1 << 20), 1..200),
            cut in 0usize..8,
        ) {
            let mut got = [0; 8];
            for (who, bytes) in &reads {
                got[*who] += *bytes as u64;
            }
            let shares = of(&reads);
            let index = shares.index().unwrap();
            prop_assert!(close(index, jain(&got)), "{index} {}", jain(&got));
            let n = shares.connections as f64;
            prop_assert!(index <= 1.0 + 1e-12 && index >= 1.0 / n - 1e-12);
            // The connections of two reactors.
            let (here, there): (Vec<_>, Vec<_>) = reads.iter().partition(|(who, _)| *who < cut);
            let mut both = of(&here);
            both.merge(&of(&there));
            prop_assert_eq!(both, shares);
        }

        #[test]
        fn each_second_has_an_index_of_its_own(
            reads in prop::collection::vec((0u64..3, 0usize..4, 1usize..1 << 16), 1..200),
        ) {
            let mut fairness = Fairness::default();
            let mut shares = [Share::default(); 4];
            let (mut second, mut got, mut sums) = (0, [0; 4], (0.0, 0));
            for (passed, who, bytes) in reads {
                if passed > 0 {
                    fairness.handle_time(s(second + passed));
                    let over = fairness.of(second as u32);
                    let n = got.iter().filter(|bytes| **bytes > 0).count();
                    prop_assert_eq!(over.connections, n as u64);
                    prop_assert_eq!(over.bytes, got.iter().sum::<u64>());
                    prop_assert_eq!(over.squares, got.iter().map(|x| u128::from(x * x)).sum());
                    if n > 1 {
                        sums = (sums.0 + n as f64 * jain(&got), sums.1 + n);
                    }
                    second += passed;
                    got = [0; 4];
                }
                fairness.handle_read(&mut shares[who], bytes);
                got[who] += bytes as u64;
            }
            if let Some(mean) = fairness.mean_until(second as u32).index() {
                prop_assert!(close(mean, sums.0 / sums.1 as f64));
            } else {
                prop_assert_eq!(sums.1, 0);
            }
            prop_assert_eq!(Fairness::from_words(fairness.to_words()), fairness);
        }
    }
}
