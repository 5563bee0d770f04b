//! The atomics of this room, in one place, so that a model checker's can stand in for them.
//!
//! `Arc` is the standard one in either case: it crosses to rooms that know no model, and who drops what
//! last is no part of what a model asks.

pub(super) use std::sync::Arc;

#[cfg(loom)]
pub(super) use self::ordered::{AtomicBool, AtomicU64};
#[cfg(not(loom))]
pub(super) use self::shared::{AtomicBool, AtomicU64};
#[cfg(loom)]
pub(super) use loom::sync::{
    Mutex,
    atomic::{AtomicU8, Ordering, fence},
};
#[cfg(not(loom))]
pub(super) use std::sync::{
    Mutex,
    atomic::{AtomicU8, Ordering, fence},
};

/// The standard atomics: what no model runs.
#[cfg(any(loom, not(feature = "sim")))]
pub(crate) mod shared {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
}

/// The standard atomics, before each use of which somebody else may act: in a simulation too, what is
/// shared changes at any moment. Weaker orders than the program's are for the models.
#[cfg(all(not(loom), feature = "sim"))]
pub(crate) mod shared {
    use std::ops::Deref;
    use std::sync::atomic;

    macro_rules! shared {
        ($name:ident, $value:ty) => {
            #[derive(Debug, Default)]
            pub(crate) struct $name(atomic::$name);

            impl $name {
                #[allow(dead_code, reason = "of some of them")]
                pub(crate) const fn new(value: $value) -> Self {
                    Self(atomic::$name::new(value))
                }
            }

            impl Deref for $name {
                type Target = atomic::$name;

                fn deref(&self) -> &Self::Target {
                    crate::ring::others::act();
                    &self.0
                }
            }
        };
    }

    shared!(AtomicBool, bool);
    shared!(AtomicU32, u32);
    shared!(AtomicU64, u64);
    shared!(AtomicUsize, usize);
}

/// Loom's atomics, whose stores come after every change that was made before them.
///
/// loom 0.7 leaves a plain store unordered beside another thread's swap or compare_exchange, and a later
/// one may then read either: also the one that C++ rules out, because a read-modify-write follows at
/// once what it has read, or because the other is known. It would report wakes as lost that no machine
/// loses. A store that is a swap has its place; all orders in which stores can come are still tried.
#[cfg(loom)]
mod ordered {
    use std::ops::Deref;
    use std::sync::atomic::Ordering;

    macro_rules! ordered {
        ($name:ident, $value:ty) => {
            #[derive(Debug, Default)]
            pub(in crate::ring) struct $name(loom::sync::atomic::$name);

            impl $name {
                #[allow(dead_code, reason = "of one of them")]
                #[track_caller]
                pub(in crate::ring) fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                #[track_caller]
                pub(in crate::ring) fn store(&self, value: $value, order: Ordering) {
                    self.0.swap(value, order);
                }
            }

            impl Deref for $name {
                type Target = loom::sync::atomic::$name;

                fn deref(&self) -> &Self::Target {
                    &self.0
                }
            }
        };
    }

    ordered!(AtomicBool, bool);
    ordered!(AtomicU64, u64);
}
