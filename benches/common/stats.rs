//! Medians of paired ratios, with the interval that they lie in.

/// What a column of numbers comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    /// A 95 % interval of the median, by order statistics: no assumption about how they are distributed.
    /// With fewer than six numbers there is none, and it is the least and the largest.
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// `None` of nothing.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let last = n.checked_sub(1)?;
        let skip = outside(n);
        Some(Self {
            median: (sorted[last / 2] + sorted[n / 2]) / 2.0,
            low: sorted[skip],
            high: sorted[last - skip],
            min: sorted[0],
            max: sorted[last],
        })
    }
}

/// How many of `n` sorted numbers may be left out at each end, so that the true median still lies between
/// the others with 95 %: each lies below it as a coin falls.
fn outside(n: usize) -> usize {
    let mut probability = 0.5_f64.powi(n as i32);
    let mut tail = probability;
    let mut skip = 0;
    while skip + 1 < n.div_ceil(2) {
        probability *= (n - skip) as f64 / (skip + 1) as f64;
        if tail + probability > 0.025 {
            break;
        }
        tail += probability;
        skip += 1;
    }
    skip
}
