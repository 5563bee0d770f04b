//! Who else acts while one side is at work: nobody but in a simulation, which has one thread.
//!
//! In: whoever runs the simulation, once. Out: calls, wherever another thread could have come in between.
//! Never here: a choice; it is made by whoever is called.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

type Act = Rc<dyn Fn()>;

thread_local! {
    static OTHERS: RefCell<Option<Act>> = const { RefCell::new(None) };
    /// Is one side at work now? Looked at first, since nearly always there is no simulation.
    static MAY: Cell<bool> = const { Cell::new(false) };
}

/// Somebody else may act here.
#[inline]
pub(crate) fn act() {
    if MAY.get() {
        let others = OTHERS.with_borrow(Clone::clone);
        others.into_iter().for_each(|act| act());
    }
}

/// Who acts in this thread from now on.
pub(crate) fn are(others: Option<Act>) {
    OTHERS.set(others);
}

/// Does `work` with others in between, or without.
pub(crate) fn may_act<T>(may: bool, work: impl FnOnce() -> T) -> T {
    /// Also when the work panics.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            MAY.set(self.0);
        }
    }
    let _before = Before(MAY.replace(may));
    work()
}

/// Each of three acts in the middle of the one before: at `points[0]` and `points[1]` of what the first and
/// the second do to what is shared. `false`: somebody did not get so far, and others did not act.
#[cfg(test)]
pub(crate) fn one_in_another(points: [usize; 2], act: impl Fn(usize) + 'static) -> bool {
    struct Play<F> {
        act: F,
        points: [usize; 2],
        depth: Cell<usize>,
        steps: [Cell<usize>; 3],
    }
    impl<F: Fn(usize)> Play<F> {
        fn act(&self, depth: usize) {
            let before = self.depth.replace(depth);
            (self.act)(depth);
            self.depth.set(before);
        }

        fn step(&self) {
            let depth = self.depth.get();
            let step = self.steps[depth].replace(self.steps[depth].get() + 1);
            if self.points.get(depth) == Some(&step) {
                self.act(depth + 1);
            }
        }
    }
    let play = Rc::new(Play {
        act,
        points,
        depth: Cell::new(0),
        steps: Default::default(),
    });
    let others = play.clone();
    are(Some(Rc::new(move || others.step())));
    may_act(true, || play.act(0));
    are(None);
    play.steps.iter().all(|steps| steps.get() > 0)
}
