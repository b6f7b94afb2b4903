//! What the finalized level lets in.

use super::*;

#[test]
fn a_cluster_that_finalized_nothing_is_at_the_oldest_level() {
    let world = World::default();
    assert_eq!(world.state.level(), OLDEST_LEVEL);
    assert_eq!(world.state.check_level(OLDEST_LEVEL), Ok(()));
    let refused = world.state.check_level(2).unwrap_err();
    assert_eq!(refused, Refusal::LevelTooLow { needs: 2, level: 1 });
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let text = refused.to_string();
    assert!(text.contains("headwater cluster finalize"), "{text}");
    assert_eq!(World::newest().state.check_level(NEWEST_LEVEL), Ok(()));
}

#[test]
fn a_level_rises_to_what_is_known_and_never_falls() {
    let mut world = World::newest();
    assert_eq!(world.refused(finalize(OLDEST_LEVEL)), ErrorKind::Invalid);
    let check = |state: &State, level| {
        state
            .check_finalize(VERSION_FEATURE, level, NEWEST_LEVEL)
            .is_ok()
    };
    for level in [0, OLDEST_LEVEL, NEWEST_LEVEL + 1, u16::MAX] {
        assert!(!check(&world.state, level), "{level}");
    }
    assert!(check(&world.state, NEWEST_LEVEL), "once more is no harm");
    assert_eq!(world.state.check_finalize("other", 0, NEWEST_LEVEL), Ok(()));
    let (state, image) = (&world.state, crate::image::Image::new(&world.state));
    assert_eq!((state.level(), image.level()), (NEWEST_LEVEL, NEWEST_LEVEL));
    let read = State::decode(&world.state.encode()).unwrap();
    assert_eq!(read.level(), NEWEST_LEVEL, "a snapshot names it");
}

#[test]
fn a_state_of_a_later_level_is_not_gone_on_from() {
    let mut world = World::newest();
    world.state.check_known(NEWEST_LEVEL).unwrap();
    assert!(world.state.check_known(OLDEST_LEVEL).is_err());
    // As a later build's leader would have it written.
    world.done(finalize(NEWEST_LEVEL + 1));
    let refused = world.state.check_known(NEWEST_LEVEL).unwrap_err();
    assert!(refused.to_string().contains("newer"), "{refused}");
}

/// `RegisterBroker.directory` needs no level: what `apply` does and answers is the same without it,
/// so that a build that never heard of it (its voters drop the field) holds the same state but for
/// that. Only the leader looks at it, and a directory that is not known proves no death.
#[test]
fn a_directory_changes_nothing_that_apply_decides() {
    let (mut with, mut without) = (World::newest(), World::newest());
    for n in 0..3u128 {
        let register = |directory| RegisterBroker {
            node: NodeId(7),
            incarnation: Uuid::from_u128(50 + n),
            listeners: Vec::new(),
            rack: None,
            directory,
            lived: None,
        };
        let named = Command::RegisterBroker(register(Uuid::from_u128(900 + n % 2)));
        let nameless = Command::RegisterBroker(register(Uuid::nil()));
        assert_eq!(with.done(named), without.done(nameless));
    }
    let strip = |mut image: crate::image::Image| {
        let mut brokers = (*image.brokers).clone();
        for broker in brokers.values_mut() {
            broker.directory = Uuid::nil();
        }
        image.brokers = std::sync::Arc::new(brokers);
        image
    };
    let of = |world: &World| strip(crate::image::Image::new(&world.state));
    assert_eq!(of(&with).brokers, of(&without).brokers);
    assert_eq!(of(&with).wals, of(&without).wals);
}
