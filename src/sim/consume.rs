//! A consumer of the simulation: takes batches, releases them wholly, in part or not, stalls, dies.
//!
//! In: a step. Out: delivered records, in the ledger. Never here: a record that counts before its release.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::ledger::{Ledger, bytes_of};
use crate::consumer::{Consumer, Ended, Record};
use crate::net::sim::{Fault, Random, SimNetwork};

/// Wakes nobody: whoever runs the simulation asks.
#[derive(Debug, Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) struct Taker {
    consumer: Option<Consumer>,
    bell: Arc<Bell>,
    waker: Waker,
    parked: bool,
    stalled_until: Duration,
    random: Random,
    pub(super) ended: Option<Ended>,
    pub(super) died: bool,
}

impl Taker {
    pub(super) fn new(consumer: Consumer, random: Random) -> Self {
        let bell = Arc::new(Bell::default());
        Self {
            consumer: Some(consumer),
            waker: Waker::from(bell.clone()),
            bell,
            parked: false,
            stalled_until: Duration::ZERO,
            random,
            ended: None,
            died: false,
        }
    }

    /// A consumer that sleeps goes on when it is woken, and not before: a lost wake is a lost consumer.
    pub(super) fn is_runnable(&self, now: Duration) -> bool {
        let awake = !self.parked || self.bell.0.load(Ordering::Relaxed);
        self.consumer.is_some() && awake && self.stalled_until <= now
    }

    /// When it goes on by itself.
    pub(super) fn next_time(&self, now: Duration) -> Option<Duration> {
        let awake = !self.parked || self.bell.0.load(Ordering::Relaxed);
        (self.consumer.is_some() && awake && self.stalled_until > now).then_some(self.stalled_until)
    }

    pub(super) fn rouse(&mut self) {
        self.stalled_until = Duration::ZERO;
    }

    pub(super) fn step(&mut self, network: &SimNetwork, ledger: &mut Ledger) {
        if network.strikes(Fault::ConsumerStalls) {
            let time = Duration::from_millis(self.random.within(1..=2000) as u64);
            self.stalled_until = network.now() + time;
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
        let mut batch = match consumer.poll_next(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => {
                self.parked = true;
                return;
            }
            Poll::Ready(Err(ended)) => {
                network.say(|| format!("consumer {index} ends: {ended}"));
                self.ended = Some(ended);
                self.consumer = None;
                return;
            }
            Poll::Ready(Ok(batch)) => batch,
        };
        if network.strikes(Fault::BatchDropped) {
            return;
        }
        let count = batch.records().count();
        network.say(|| format!("consumer {index} takes {count} records"));
        if network.strikes(Fault::BatchInPart) {
            let whole = self.random.below(count);
            let mut records = batch.records();
            for record in records.by_ref().take(whole) {
                ledger.take(&record, usize::MAX);
            }
            let mut mark = records.mark_here();
            if let Some(record) = records.next()
                && let Record::Messages(messages) = &record
                && !messages.is_whole()
            {
                let most = self.random.below(messages.count());
                if most > 0 {
                    ledger.take(&record, most);
                    mark = messages.mark_within(bytes_of(messages, most));
                }
            }
            batch.release_until(mark);
            return;
        }
        for record in batch.records() {
            ledger.take(&record, usize::MAX);
        }
        batch.release();
    }
}
