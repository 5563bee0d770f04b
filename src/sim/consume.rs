//! A consumer of the simulation: shown a batch, and held to what was released of it. It stalls and dies.
//!
//! In: a step. Out: delivered records, in the ledger. Never here: a record that counts before its release.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::Consume;
use super::ledger::{Ledger, Shown};
use crate::consumer::{Batch, Consumer, Ended, Mark, Record};
use crate::net::sim::{Fault, Random, SimNetwork};

/// Wakes nobody: whoever runs the simulation asks.
#[derive(Debug, Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Batches of which a consumer may release nothing, one after the other, while nothing goes wrong.
const MOST_IDLE: u32 = 1000;

pub(super) struct Taker {
    consumer: Option<Consumer>,
    /// After its end: dropped, it would wake the reactors, which are not to need that.
    kept: Option<Consumer>,
    work: Box<dyn Consume>,
    bell: Arc<Bell>,
    waker: Waker,
    parked: bool,
    busy_until: Duration,
    /// When it released something, of each reactor's ring.
    released_at: Vec<Vec<Duration>>,
    /// Batches since it last released something.
    idle: u32,
    random: Random,
    pub(super) ended: Option<Ended>,
    pub(super) died: bool,
}

impl Taker {
    pub(super) fn new(
        consumer: Consumer,
        reactors: usize,
        work: Box<dyn Consume>,
        random: Random,
    ) -> Self {
        let bell = Arc::new(Bell::default());
        Self {
            consumer: Some(consumer),
            kept: None,
            work,
            waker: Waker::from(bell.clone()),
            bell,
            parked: false,
            busy_until: Duration::ZERO,
            released_at: vec![vec![Duration::ZERO]; reactors],
            idle: 0,
            random,
            ended: None,
            died: false,
        }
    }

    /// A consumer that sleeps goes on when it is woken, and not before: a lost wake is a lost consumer.
    pub(super) fn is_runnable(&self, now: Duration) -> bool {
        self.is_awake() && self.busy_until <= now
    }

    /// When it goes on by itself.
    pub(super) fn next_time(&self, now: Duration) -> Option<Duration> {
        (self.is_awake() && self.busy_until > now).then_some(self.busy_until)
    }

    fn is_awake(&self) -> bool {
        let is_woken = !self.parked || self.bell.0.load(Ordering::Relaxed);
        self.consumer.is_some() && is_woken
    }

    /// For how long it had released nothing of this reactor's ring, at some time since then.
    pub(super) fn still_for(&self, reactor: usize, since: Duration, now: Duration) -> Duration {
        let mut still = Duration::ZERO;
        let mut next = now;
        for at in self.released_at[reactor].iter().rev() {
            still = still.max(next - *at);
            next = *at;
            if *at < since {
                break;
            }
        }
        still
    }

    pub(super) fn rouse(&mut self) {
        self.busy_until = Duration::ZERO;
    }

    pub(super) fn step(&mut self, network: &SimNetwork, ledger: &RefCell<Ledger>) {
        if network.strikes(Fault::ConsumerStalls) {
            let time = Duration::from_millis(self.random.within(1..=2000) as u64);
            self.busy_until = network.now() + time;
            return;
        }
        if network.strikes(Fault::ConsumerDies) {
            network.say(|| "a consumer dies".to_owned());
            self.consumer = None;
            self.died = true;
            return;
        }
        let Some(consumer) = &mut self.consumer else {
            return;
        };
        let index = consumer.index();
        self.bell.0.store(false, Ordering::Relaxed);
        self.parked = false;
        let batch = match consumer.poll_next(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => {
                self.parked = true;
                return;
            }
            Poll::Ready(Err(ended)) => {
                network.say(|| format!("consumer {index} ends: {ended}"));
                self.work.ended(ended);
                self.ended = Some(ended);
                self.kept = self.consumer.take();
                return;
            }
            Poll::Ready(Ok(batch)) => batch,
        };
        let shown = shown(&batch);
        let count = shown.len();
        let time = self.work.batch(batch);
        let released = shown.iter().take_while(|(m, _)| consumer.has_released(*m));
        let mut done = 0;
        for (mark, record) in released {
            self.released_at[mark.ring()].push(network.now());
            ledger.borrow_mut().take(network, index, record);
            if let Shown::Closed(who, ..) = record {
                assert!(consumer.delivered(*who), "{who} was, all of it");
            }
            done += 1;
        }
        network.say(|| format!("consumer {index} releases {done} of {count}"));
        self.idle = if done > 0 || !network.is_calm() {
            0
        } else {
            self.idle + 1
        };
        assert!(
            self.idle < MOST_IDLE,
            "consumer {index} never gets anywhere: of {MOST_IDLE} batches it released nothing"
        );
        if !time.is_zero() {
            self.busy_until = network.now() + time;
        }
    }
}

/// What a batch holds, message by message, each with the mark behind it.
fn shown(batch: &Batch<'_>) -> Vec<(Mark, Shown)> {
    let mut shown = Vec::new();
    let mut records = batch.records();
    while let Some(record) = records.next() {
        let Record::Messages(messages) = &record else {
            shown.push((records.mark_here(), Shown::of(&record)));
            continue;
        };
        let (mut iter, mut before) = (messages.iter(), 0);
        while let Some(text) = iter.next() {
            let bytes = iter.taken() - before;
            before = iter.taken();
            let mark = messages.mark_within(before);
            shown.push((mark, Shown::message(messages, text, bytes)));
        }
        assert!(
            before > 0 || messages.is_whole(),
            "a record without a message"
        );
        assert_eq!(
            before,
            messages.raw().len(),
            "bytes of a record in no message"
        );
    }
    shown
}

/// Releases a batch wholly, in part or not, soon or late.
pub(super) struct Moody {
    network: SimNetwork,
    random: Random,
    slowest: Duration,
}

impl Moody {
    pub(super) fn new(network: &SimNetwork, random: Random, slowest: Duration) -> Self {
        Self {
            network: network.clone(),
            random,
            slowest,
        }
    }

    fn work(&mut self) -> Duration {
        let most = self.slowest.as_micros() as usize;
        Duration::from_micros(self.random.within(0..=most) as u64)
    }
}

impl Consume for Moody {
    fn batch(&mut self, mut batch: Batch<'_>) -> Duration {
        if self.network.strikes(Fault::BatchDropped) {
            return self.work();
        }
        if !self.network.strikes(Fault::BatchInPart) {
            batch.release();
            return self.work();
        }
        let whole = self.random.below(batch.records().count());
        let mut records = batch.records();
        if whole > 0 {
            records.nth(whole - 1);
        }
        let mut mark = records.mark_here();
        if let Some(Record::Messages(messages)) = records.next()
            && !messages.is_whole()
        {
            let most = self.random.below(messages.count());
            let mut iter = messages.iter();
            if most > 0 {
                iter.nth(most - 1);
            }
            mark = messages.mark_within(iter.taken());
        }
        batch.release_until(mark);
        self.work()
    }
}
