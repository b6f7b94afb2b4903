use super::*;
use crate::consumer::tests::partitions;

fn step<'a>(target: &'a Assignment, owned: Option<&'a Assignment>, others: bool) -> Step<'a> {
    Step {
        known_epoch: 4,
        target_epoch: 9,
        target,
        owned,
        is_owned: if others { &|_| true } else { &|_| false },
    }
}

fn at(state: MemberState, assigned: Assignment, revoking: Assignment) -> CurrentAssignment {
    CurrentAssignment {
        epoch: 4,
        previous_epoch: 3,
        state,
        assigned,
        revoking,
    }
}

#[test]
fn what_is_to_go_goes_first() {
    let (had, target) = (partitions(1, &[0, 1]), partitions(1, &[1, 2]));
    let stable = at(MemberState::Stable, had.clone(), Assignment::new());
    let told = step(&target, Some(&had), false).take(&stable).unwrap();
    assert_eq!(
        told,
        at(
            MemberState::UnrevokedPartitions,
            partitions(1, &[1]),
            partitions(1, &[0])
        )
    );
    // Silence is no confirmation, and neither is a list that still has it.
    for owned in [None, Some(&had)] {
        assert_eq!(step(&target, owned, false).take(&told).unwrap(), told);
    }
    let kept = partitions(1, &[1]);
    let done = step(&target, Some(&kept), false).take(&told).unwrap();
    assert_eq!((done.epoch, done.previous_epoch), (9, 4));
    assert_eq!((done.state, done.assigned), (MemberState::Stable, target));
}

#[test]
fn what_others_own_is_waited_for() {
    let target = partitions(1, &[0]);
    let stable = at(MemberState::Stable, Assignment::new(), Assignment::new());
    let waits = step(&target, None, true).take(&stable).unwrap();
    assert_eq!(waits.state, MemberState::UnreleasedPartitions);
    assert_eq!((waits.epoch, waits.assigned.len()), (9, 0));
    assert_eq!(step(&target, None, true).take(&waits).unwrap(), waits);
    let has = step(&target, None, false).take(&waits).unwrap();
    assert_eq!((has.state, has.assigned), (MemberState::Stable, target));
}

#[test]
fn what_comes_back_while_it_is_given_up_needs_no_wait() {
    // Given up as was asked, and wanted again by the target meanwhile: its own partition.
    let target = partitions(1, &[0]);
    let empty = Assignment::new();
    let told = at(
        MemberState::UnrevokedPartitions,
        Assignment::new(),
        target.clone(),
    );
    let has = step(&target, Some(&empty), true).take(&told).unwrap();
    assert_eq!((has.state, has.assigned), (MemberState::Stable, target));
}

#[test]
fn a_second_revocation_is_an_epoch_of_its_own() {
    let (target, owned) = (Assignment::new(), partitions(1, &[1]));
    let told = at(
        MemberState::UnrevokedPartitions,
        partitions(1, &[1]),
        partitions(1, &[0]),
    );
    let next = step(&target, Some(&owned), false).take(&told).unwrap();
    assert_eq!(next.state, MemberState::UnrevokedPartitions);
    assert_eq!((next.epoch, next.previous_epoch), (5, 4));
    assert_eq!(next.revoking, owned);
}

#[test]
fn a_state_of_a_later_version_begins_anew() {
    let target = partitions(1, &[0]);
    let empty = Assignment::new();
    let unknown = at(MemberState::Unknown, target.clone(), Assignment::new());
    assert_eq!(step(&target, None, false).take(&unknown), Err(MustRejoin));
    let next = step(&target, Some(&empty), true).take(&unknown).unwrap();
    assert_eq!((next.state, next.epoch), (MemberState::Stable, 9));
}
