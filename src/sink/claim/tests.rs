//! Copies of a state directory that run side by side, are killed and started again: what the
//! target holds is always the output of one of them, whole and in order.

use proptest::prelude::*;

use super::*;

/// Output of one commit: what was committed before it, on the same state, and its own number.
type Lineage = Vec<u64>;

#[derive(Clone, Default)]
struct Letter {
    tick: Tick,
    lineage: Lineage,
}

/// A state directory, and the flow that may be running on it.
#[derive(Clone, Default)]
struct Copy {
    token: Option<Vec<u8>>,
    committed: Tick,
    lineage: Lineage,
    /// In the store: let go by the first commit after it has been sent.
    letters: Vec<Letter>,
    running: Option<Running>,
}

#[derive(Clone)]
struct Running {
    claim: Claim,
    unsent: Vec<Letter>,
}

#[derive(Default)]
struct Target {
    mark: Option<Mark>,
    rows: Lineage,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Power loss, or a kill.
    Kill,
    Start,
    Commit,
    /// The next letter; with `false` the answer is lost, and it is sent again.
    Send(bool),
    CopyTo(usize),
}

fn opening<'a>(copy: &'a Copy) -> Opening<'a> {
    Opening {
        flow: "f",
        sink: "s",
        token: copy.token.as_deref(),
        committed: copy.committed,
        letters: copy.letters.len(),
    }
}

impl Copy {
    fn step(&mut self, step: Step, target: &mut Target, numbers: &mut u64) {
        match step {
            Step::Kill => self.running = None,
            Step::Start if self.running.is_none() => {
                let claim = Claim::raise(&opening(self), target.mark.as_ref(), false);
                let Ok(claim) = claim else { return };
                target.mark = Some(claim.mark());
                self.running = Some(Running { claim, unsent: self.letters.clone() });
            }
            Step::Commit => self.commit(numbers),
            Step::Send(answered) => self.send(answered, target),
            _ => {}
        }
    }

    /// A commit is only made when all letters before it have been sent.
    fn commit(&mut self, numbers: &mut u64) {
        let Some(running) = self.running.as_mut().filter(|r| r.unsent.is_empty()) else { return };
        *numbers += 1;
        self.committed = Tick(self.committed.0 + 1);
        self.token = Some(running.claim.token());
        self.lineage.push(*numbers);
        self.letters = vec![Letter { tick: self.committed, lineage: self.lineage.clone() }];
        running.unsent.clone_from(&self.letters);
    }

    fn send(&mut self, answered: bool, target: &mut Target) {
        let Some(running) = &mut self.running else { return };
        let Some(letter) = running.unsent.first().cloned() else { return };
        let mut mark = target.mark.expect("it was claimed");
        match running.claim.takes(&mark, letter.tick) {
            Ok(true) => {
                target.rows.push(*letter.lineage.last().unwrap());
                assert_eq!(target.rows, letter.lineage, "lost, repeated or mixed");
                mark.sent = Some(running.claim.stamp(letter.tick));
                target.mark = Some(mark);
            }
            Ok(false) => assert!(target.rows.contains(letter.lineage.last().unwrap()), "lost"),
            Err(_) => return self.running = None,
        }
        if answered {
            running.unsent.remove(0);
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        2 => Just(Step::Kill),
        4 => Just(Step::Start),
        6 => Just(Step::Commit),
        6 => any::<bool>().prop_map(Step::Send),
        1 => (0..3_usize).prop_map(Step::CopyTo),
    ];
    prop::collection::vec((0..3_usize, step), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_target_holds_the_output_of_one_lineage(steps in steps()) {
        let (mut copies, mut target) = (vec![Copy::default(); 3], Target::default());
        let mut numbers = 0;
        for (at, step) in steps {
            if let Step::CopyTo(to) = step {
                if to != at {
                    copies[to] = Copy { running: None, ..copies[at].clone() };
                }
                continue;
            }
            copies[at].step(step, &mut target, &mut numbers);
        }
    }

    /// Without copies nothing is ever refused.
    #[test]
    fn one_state_alone_always_goes_on(steps in steps()) {
        let (mut copy, mut target, mut numbers) = (Copy::default(), Target::default(), 0);
        for (_, step) in steps {
            copy.step(step, &mut target, &mut numbers);
            if !matches!(step, Step::Kill) && copy.running.is_none() {
                copy.step(Step::Start, &mut target, &mut numbers);
                prop_assert!(copy.running.is_some());
            }
        }
        while copy.running.as_ref().is_some_and(|running| !running.unsent.is_empty()) {
            copy.step(Step::Send(true), &mut target, &mut numbers);
        }
        prop_assert!(copy.running.is_none() || target.rows == copy.lineage);
    }
}

fn sent(made_by: u64, sent_by: u64, tick: u64) -> Option<Mark> {
    let stamp = Stamp { sent_by, made_by, tick: Tick(tick) };
    Some(Mark { incarnation: sent_by, sent: Some(stamp) })
}

#[test]
fn what_the_state_does_not_know_is_refused_unless_adopted() {
    let token = 3_u64.to_le_bytes();
    let known =
        Opening { flow: "f", sink: "s", token: Some(&token), committed: Tick(7), letters: 1 };
    for (mark, refused) in [
        (sent(3, 3, 7), None),
        (sent(3, 4, 7), None),
        (sent(2, 3, 5), None),
        (sent(3, 3, 8), Some("commits that this state does not have")),
        (sent(4, 4, 7), Some("a run that this state knows nothing of")),
        (sent(2, 4, 7), Some("a run that this state knows nothing of")),
        (None, Some("has forgotten")),
        (sent(2, 2, 7), Some("has forgotten")),
        (Some(Mark { incarnation: 3, sent: None }), None),
    ] {
        let error = Claim::raise(&known, mark.as_ref(), false).err().map(|e| e.to_string());
        assert_eq!(error.is_some(), refused.is_some(), "{mark:?}: {error:?}");
        assert!(error.unwrap_or_default().contains(refused.unwrap_or_default()));
        let adopted = Claim::raise(&known, mark.as_ref(), true).unwrap();
        assert!(adopted.takes(&adopted.mark(), Tick(7)).unwrap(), "{mark:?}");
    }
    let with = |token| Opening { token: Some(token), ..known };
    assert!(Claim::raise(&with(b"x"), None, false).is_err());
    assert!(Claim::raise(&with(b"x"), None, true).is_ok());
    assert!(Claim::raise(&with(b""), None, false).is_ok());
}
