//! From which state to which a machine went: counted where whole reactors are simulated, and nowhere else.
//!
//! In: a step of a machine. Out: how often each was taken. Never here: a decision.

#[cfg(feature = "sim")]
pub use self::counted::{Edge, Edges};
#[cfg(feature = "sim")]
pub(crate) use self::counted::{note, take};

/// A machine goes from one state to another.
#[cfg(not(feature = "sim"))]
pub(crate) fn note(_machine: &'static str, _from: &'static str, _to: &'static str) {}

#[cfg(feature = "sim")]
mod counted {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// A machine, the state that it was in, and the one that followed.
    pub type Edge = (&'static str, &'static str, &'static str);

    /// How often each was taken.
    pub type Edges = BTreeMap<Edge, u64>;

    thread_local! {
        static TAKEN: RefCell<Edges> = RefCell::default();
    }

    /// A machine goes from one state to another.
    pub(crate) fn note(machine: &'static str, from: &'static str, to: &'static str) {
        TAKEN.with_borrow_mut(|edges| *edges.entry((machine, from, to)).or_default() += 1);
    }

    /// What this thread counted since it was last asked.
    pub(crate) fn take() -> Edges {
        TAKEN.take()
    }
}
