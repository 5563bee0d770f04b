//! What must hold when a run is over.
//!
//! In: the counts, the network, the consumers' ledger. Out: nothing, or a panic that says who is wrong.
//! Never here: a step.

use std::collections::HashMap;

use super::plan::Plan;
use super::world::{DRAIN, World};
use crate::close::RefuseReason;
use crate::consumer::Ended;
use crate::net::sim::Fate;
use crate::policy::{AtLimit, OnConsumerStall};
use crate::status::Snapshot;

impl World {
    pub(super) fn check_end(&self, plan: &Plan) {
        let snapshot = self.handle.snapshot();
        assert!(snapshot.ended && snapshot.balanced(), "{snapshot:#?}");
        assert_eq!(snapshot.connections.open, 0);
        assert_eq!(
            snapshot.connections.accepted,
            snapshot.connections.closed.total(),
            "each accepted connection ends once"
        );
        assert_eq!(self.network.open_descriptors(), 0, "descriptors are left");
        assert_eq!(snapshot.bytes.in_rings, 0, "{snapshot:#?}");
        let fates: HashMap<u16, Fate> = self
            .senders
            .iter()
            .map(|sender| {
                let sender = sender.borrow();
                (sender.port(), sender.fate())
            })
            .collect();
        let ledger = self.ledger.borrow();
        ledger.finish(&fates);
        self.check_counts(plan, &snapshot, fates.values());
        let died = self.takers.iter().any(|taker| taker.borrow().died);
        if died || self.stopped.get() || self.gave_up() {
            return;
        }
        for taker in &self.takers {
            assert_eq!(taker.borrow().ended, Some(Ended::Drained));
        }
        if self.early.get() {
            return;
        }
        assert_eq!(snapshot.bytes.abandoned, 0, "lost in a drain that had time");
        let took = self.network.now() - self.drained_at.get();
        assert!(took < DRAIN, "the drain took all of its time");
        // Who waits to say that it is closed gives up at the stall deadline, as who waits to be read does.
        let evicts = plan.config.on_consumer_stall == OnConsumerStall::Evict;
        if plan.config.deadlines.stall.is_none() && !evicts {
            ledger.check_all_closed();
        }
    }

    /// The counts, held against what the network and the consumers know.
    fn check_counts<'f>(
        &self,
        plan: &Plan,
        snapshot: &Snapshot,
        fates: impl Iterator<Item = &'f Fate>,
    ) {
        let (mut accepted, mut received, mut left, mut late) = (0, 0, 0, 0);
        for fate in fates.filter(|fate| fate.accepted || fate.turned_away) {
            accepted += u64::from(fate.accepted);
            received += fate.arrived - fate.left;
            left += fate.left;
            late += fate.late;
        }
        let connections = &snapshot.connections;
        assert_eq!(connections.accepted, accepted, "accepted");
        let by_listener: u64 = snapshot.listeners.iter().map(|l| l.accepted).sum();
        assert_eq!(by_listener, accepted, "accepted by all listeners");
        assert_eq!(snapshot.bytes.received, received, "bytes read");
        let unread = snapshot.unread;
        assert!(
            (left - late..=left).contains(&unread),
            "{unread} bytes are told to be left unread, of {left}, {late} of them late"
        );
        let refused = self.network.refused();
        assert_eq!(connections.refused.total(), refused, "refused");
        let ledger = self.ledger.borrow();
        for (reason, count) in connections.closed.iter() {
            let told = ledger.closed_by(reason);
            assert!(
                told <= count,
                "{told} were told {reason}, {count} are counted"
            );
        }
        let most = self.network.most_descriptors();
        // Who is turned away has a descriptor for a moment: beyond its place, if it has none.
        let refuses = plan.config.at_max_connections == AtLimit::Refuse
            || connections.refused.count(RefuseReason::Shutdown) > 0;
        let turned_away = connections.refused.total() > 0;
        let beyond = if refuses { plan.config.reactors } else { 0 };
        let limit = plan.config.max_connections + beyond;
        assert!(most <= limit, "{most} connections at once, of {limit}");
        // A reactor counts after it has taken, and after it has given back; the others do so meanwhile.
        let peak = snapshot.peak.connections as usize;
        let apart = peak.abs_diff(most);
        assert!(
            apart < plan.config.reactors * (1 + usize::from(turned_away)),
            "{peak} at once are counted, there were {most}"
        );
    }
}
