//! How much of a turn each ring and each listener may have.
//!
//! In: budgets that a user chose. Out: refusals. Never here: a turn.

use crate::policy::Budgets;

pub(super) fn check(budgets: &Budgets, refuse: &mut impl FnMut(&'static str, String, String)) {
    for (setting, value, most, legal) in [
        ("budgets.reads", budgets.reads, 1 << 16, "1 to 65536"),
        ("budgets.bytes", budgets.bytes, 1 << 30, "1 to 1 GiB"),
        ("budgets.accepts", budgets.accepts, 1 << 16, "1 to 65536"),
    ] {
        if !(1..=most).contains(&value) {
            refuse(setting, value.to_string(), format!("{legal} are possible"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_of_nothing_is_refused_and_what_a_turn_can_take_is_not() {
        let refused = |budgets: Budgets| {
            let mut all = Vec::new();
            check(&budgets, &mut |setting, value, reason| {
                all.push(format!("{setting} = {value}: {reason}"));
            });
            all
        };
        let all = |n| Budgets {
            reads: n,
            bytes: n,
            accepts: n,
        };
        assert_eq!(refused(Budgets::default()), [""; 0]);
        assert_eq!(refused(all(1)), [""; 0]);
        assert_eq!(
            refused(all(0)),
            [
                "budgets.reads = 0: 1 to 65536 are possible",
                "budgets.bytes = 0: 1 to 1 GiB are possible",
                "budgets.accepts = 0: 1 to 65536 are possible",
            ]
        );
        assert_eq!(refused(all(1 << 17)).len(), 2);
    }
}
