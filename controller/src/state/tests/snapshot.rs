//! The state's stored form, and the image of it.

use proptest::prelude::*;

use super::*;
use crate::command::{ConfigOp, ConfigResource};
use crate::image::Image;

/// A state with something in every field.
pub(super) fn full() -> World {
    let mut world = World::default();
    world.done(Command::InitCluster {
        cluster: ClusterId(Uuid::from_u128(1)),
        generation: 3,
    });
    let (dead, wal) = world.broker(0);
    world.create(3);
    let slices = vec![slice(0, 0, (0, 10), "a"), slice(1, 0, (0, 4), "a")];
    world.commit(round(dead, wal, (0, 7), slices)).unwrap();
    world.done(super::commit::set_log_start(
        (dead, tp(1), LeaderEpoch(0)),
        4,
    ));
    let (heir, memory) = (world.register(1), wal_id(77));
    world.done(Command::OpenWal {
        broker: heir,
        wal: memory,
        backend: WalBackend::Memory,
    });
    world.done(Command::FenceBroker { broker: dead });
    let claim = world.claim(wal, heir).claim;
    let reason = "damaged".to_owned();
    world.done(Command::ReportWalCorrupt {
        wal,
        claim,
        heir,
        reason,
    });
    let (gone, closed) = world.broker(2);
    world.done(close(closed, None, gone, 0));
    world.done(Command::FenceBroker { broker: heir });
    world.done(Command::AbandonWal {
        wal: memory,
        reason: String::new(),
    });
    let changes = vec![("x".to_owned(), ConfigOp::Set("1".to_owned()))];
    let resource = ConfigResource::Broker(NodeId(1));
    world.done(Command::AlterConfigs {
        resource,
        changes,
        replace: false,
    });
    world.done(Command::FinalizeFeature {
        name: "f".to_owned(),
        level: 2,
    });
    world.done(Command::RecordProbe {
        store_url: "s3://b".to_owned(),
        at_ms: 5,
    });
    world.done(Command::RecordCheckpoint {
        key: "meta/1".to_owned(),
    });
    let (last, _) = world.broker(3);
    world.done(Command::AllocateProducerIds {
        broker: last,
        count: 10,
    });
    world
}

#[test]
fn a_state_reads_back_equal() {
    let world = full();
    let bytes = world.state.encode();
    let back = State::decode(&bytes).unwrap();
    assert_eq!(back, world.state);
    assert_eq!(back.encode(), bytes);
    assert_eq!(
        State::decode(&State::default().encode()).unwrap(),
        State::default()
    );
}

/// Stored snapshots must stay readable: a byte that changes here breaks them.
#[test]
fn the_bytes_of_a_state_are_golden() {
    let bytes = full().state.encode();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = include_str!("state.v1.hex").trim_end();
    if hex != golden {
        println!("GOLDENSTATE\n{hex}\nEND");
    }
    assert!(hex == golden, "the stored form of the state changed");
}

#[test]
fn the_image_grown_step_by_step_is_the_image_of_the_whole() {
    let mut world = World::default();
    let mut image = Image::new(&world.state);
    let (first, wal) = world.broker(0);
    image = image.after(
        &world.state,
        &Effects {
            brokers: true,
            ..Effects::default()
        },
    );
    let steps = [
        create("logs", TOPIC, 2),
        create("more", TopicId(Uuid::from_u128(3)), 1),
        Command::FinalizeFeature {
            name: "f".to_owned(),
            level: 1,
        },
        Command::DeleteTopic { topic: TOPIC },
        Command::FenceBroker { broker: first },
        Command::AbandonWal {
            wal,
            reason: String::new(),
        },
    ];
    for command in steps {
        let id = world.fresh_id();
        let index = world.state.applied + 1;
        let (answer, effects) = world.state.apply(
            index,
            &Proposal {
                id,
                now_ms: 0,
                command,
            },
        );
        answer.unwrap();
        image = image.after(&world.state, &effects);
        let whole = Image::new(&world.state);
        assert_eq!(format!("{image:?}"), format!("{whole:?}"));
    }
    assert!(image.topic("logs").is_none() && image.wals.is_empty());
}

#[test]
fn an_idle_partition_is_small() {
    let mut world = World::default();
    world.broker(0);
    let before = world.state.encode().len();
    world.create(1000);
    let stored = (world.state.encode().len() - before) / 1000;
    let held = size_of::<Partition>();
    println!("an idle partition: {held} bytes held, {stored} stored");
    assert!(held <= 256, "{held}");
    assert!(stored <= 64, "{stored}");
}

proptest! {
    #[test]
    fn whatever_bytes_come_decoding_ends_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cut in 0usize..2000,
        at in 0usize..2000,
        flip in 1u8..,
    ) {
        let _ = State::decode(&bytes);
        let _ = Proposal::decode(&bytes);
        let mut real = full_bytes();
        let at = at % real.len();
        real[at] ^= flip;
        let _ = State::decode(&real);
        real.truncate(cut);
        let _ = State::decode(&real);
    }
}

fn full_bytes() -> Vec<u8> {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| full().state.encode()).clone()
}
