//! From which state to which a machine went: counted where whole reactors are simulated, and nowhere else.
//!
//! In: a step of a machine. Out: how often each was taken. Never here: a decision.

#[cfg(feature = "sim")]
pub use self::counted::{Edge, Edges};
#[cfg(feature = "sim")]
pub(crate) use self::counted::{begin, note, take};

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
        /// `None`: nobody will ask. A bench has this feature on too, and pays for a look.
        static TAKEN: RefCell<Option<Edges>> = const { RefCell::new(None) };
    }

    /// A machine goes from one state to another.
    pub(crate) fn note(machine: &'static str, from: &'static str, to: &'static str) {
        TAKEN.with_borrow_mut(|edges| {
            if let Some(edges) = edges {
                *edges.entry((machine, from, to)).or_default() += 1;
            }
        });
    }

    /// From now on this thread counts.
    pub(crate) fn begin() {
        TAKEN.set(Some(Edges::new()));
    }

    /// What this thread counted since it began.
    pub(crate) fn take() -> Edges {
        TAKEN.take().unwrap_or_default()
    }
}
