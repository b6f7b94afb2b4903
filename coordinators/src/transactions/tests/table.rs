//! Every state of an id against every request: what is answered at once, or written.
//!
//! The producer is 7:5. "before" is 7:4, "other" 8:5. Version 4 of EndTxn shares an epoch among
//! transactions, version 5 does not. The server is at `transaction.version` 2.

use TransactionState::{
    CompleteAbort, CompleteCommit, Empty, Ongoing, PrepareAbort, PrepareCommit,
};
use TransactionVersion::{Tv0, Tv2};

use super::super::*;
use super::rig::{Rig, brief, logged};

const NOW: Producer = Producer {
    id: protocol::ProducerId(7),
    epoch: protocol::ProducerEpoch(5),
};
const BEFORE: Producer = Producer {
    id: protocol::ProducerId(7),
    epoch: protocol::ProducerEpoch(4),
};
const OTHER: Producer = Producer {
    id: protocol::ProducerId(8),
    epoch: protocol::ProducerEpoch(5),
};

/// The requests, in the order of the rows below.
fn ask(rig: &mut Rig, request: &str) -> String {
    use Decision::{Abort, Commit};
    let effects = match request {
        "init" => rig.init(None),
        "init now" => rig.init(Some(NOW)),
        "init before" => rig.init(Some(BEFORE)),
        "init other" => rig.init(Some(OTHER)),
        "add known" => rig.add(3, NOW, 0),
        "add new" => rig.add(3, NOW, 1),
        "add before" => rig.add(4, BEFORE, 0),
        "add other" => rig.add(4, OTHER, 0),
        "verify" => return rig.verify(NOW, 0).name().to_owned(),
        "verify before" => return rig.verify(BEFORE, 0).name().to_owned(),
        "verify other" => return rig.verify(OTHER, 0).name().to_owned(),
        "4 commit" => rig.end(4, NOW, Commit),
        "4 abort" => rig.end(4, NOW, Abort),
        "4 commit before" => rig.end(4, BEFORE, Commit),
        "4 commit other" => rig.end(4, OTHER, Commit),
        "5 commit" => rig.end(5, NOW, Commit),
        "5 abort" => rig.end(5, NOW, Abort),
        "5 commit before" => rig.end(5, BEFORE, Commit),
        "5 abort before" => rig.end(5, BEFORE, Abort),
        "5 commit other" => rig.end(5, OTHER, Commit),
        "describe" => {
            return match rig.machine.describe(super::rig::ID) {
                Ok(it) => format!("{} {}", it.state.name(), it.producer),
                Err(code) => code.name().to_owned(),
            };
        }
        _ => unreachable!("{request}"),
    };
    brief(&effects)
}

const MAPPING: &str = "INVALID_PRODUCER_ID_MAPPING";
const FENCED: &str = "PRODUCER_FENCED";
const BUSY: &str = "CONCURRENT_TRANSACTIONS";
const STATE: &str = "INVALID_TXN_STATE";
const ABORTABLE: &str = "TRANSACTION_ABORTABLE";

/// Checks one column: each request meets a fresh rig.
fn check(rig: impl Fn() -> Rig, column: &[(&str, &str)]) {
    assert_eq!(column.len(), 21, "every request");
    for (request, expected) in column {
        assert_eq!(ask(&mut rig(), request), *expected, "{request}");
    }
}

fn loaded(state: TransactionState, client: TransactionVersion) -> impl Fn() -> Rig {
    move || Rig::new(Tv2, Some(&logged(state, client)))
}

#[test]
fn empty() {
    check(
        loaded(Empty, Tv0),
        &[
            ("init", "-> Empty 7:6"),
            ("init now", "-> Empty 7:6"),
            ("init before", FENCED),
            ("init other", FENCED),
            ("add known", "-> Ongoing 7:5"),
            ("add new", "-> Ongoing 7:5"),
            ("add before", FENCED),
            ("add other", MAPPING),
            ("verify", ABORTABLE),
            ("verify before", FENCED),
            ("verify other", MAPPING),
            ("4 commit", STATE),
            ("4 abort", STATE),
            ("4 commit before", FENCED),
            ("4 commit other", MAPPING),
            ("5 commit", STATE),
            ("5 abort", "-> PrepareAbort 7:6"),
            ("5 commit before", FENCED),
            ("5 abort before", FENCED),
            ("5 commit other", MAPPING),
            ("describe", "Empty 7:5"),
        ],
    );
}

#[test]
fn ongoing() {
    check(
        loaded(Ongoing, Tv0),
        &[
            ("init", "-> PrepareAbort 7:6"),
            ("init now", "-> PrepareAbort 7:6"),
            ("init before", FENCED),
            ("init other", FENCED),
            ("add known", "ok"),
            ("add new", "-> Ongoing 7:5"),
            ("add before", FENCED),
            ("add other", MAPPING),
            ("verify", "NONE"),
            ("verify before", FENCED),
            ("verify other", MAPPING),
            ("4 commit", "-> PrepareCommit 7:5"),
            ("4 abort", "-> PrepareAbort 7:5"),
            ("4 commit before", FENCED),
            ("4 commit other", MAPPING),
            ("5 commit", "-> PrepareCommit 7:6"),
            ("5 abort", "-> PrepareAbort 7:6"),
            ("5 commit before", FENCED),
            ("5 abort before", FENCED),
            ("5 commit other", MAPPING),
            ("describe", "Ongoing 7:5"),
        ],
    );
}

#[test]
fn being_completed() {
    for (state, client) in [
        (PrepareCommit, Tv0),
        (PrepareCommit, Tv2),
        (PrepareAbort, Tv0),
        (PrepareAbort, Tv2),
    ] {
        let described = format!("{} 7:5", state.name());
        check(
            loaded(state, client),
            &[
                ("init", BUSY),
                ("init now", BUSY),
                ("init before", BUSY),
                ("init other", BUSY),
                ("add known", BUSY),
                ("add new", BUSY),
                ("add before", BUSY),
                ("add other", BUSY),
                ("verify", BUSY),
                ("verify before", FENCED),
                ("verify other", MAPPING),
                ("4 commit", BUSY),
                ("4 abort", BUSY),
                ("4 commit before", FENCED),
                ("4 commit other", MAPPING),
                ("5 commit", BUSY),
                ("5 abort", BUSY),
                ("5 commit before", BUSY),
                ("5 abort before", BUSY),
                ("5 commit other", BUSY),
                ("describe", &described),
            ],
        );
    }
}

#[test]
fn complete_with_a_shared_epoch() {
    for (state, same, other) in [
        (CompleteCommit, "4 commit", "4 abort"),
        (CompleteAbort, "4 abort", "4 commit"),
    ] {
        let described = format!("{} 7:5", state.name());
        check(
            loaded(state, Tv0),
            &[
                ("init", "-> Empty 7:6"),
                ("init now", "-> Empty 7:6"),
                ("init before", FENCED),
                ("init other", FENCED),
                ("add known", "-> Ongoing 7:5"),
                ("add new", "-> Ongoing 7:5"),
                ("add before", FENCED),
                ("add other", MAPPING),
                ("verify", ABORTABLE),
                ("verify before", FENCED),
                ("verify other", MAPPING),
                (same, "ok 7:5"),
                (other, STATE),
                ("4 commit before", FENCED),
                ("4 commit other", MAPPING),
                ("5 commit", STATE),
                ("5 abort", "-> PrepareAbort 7:6"),
                // Not the end of a transaction of 7:4: the epoch was raised for another.
                ("5 commit before", FENCED),
                ("5 abort before", FENCED),
                ("5 commit other", MAPPING),
                ("describe", &described),
            ],
        );
    }
}

#[test]
fn complete_with_an_epoch_for_each() {
    for (state, same, other) in [
        (CompleteCommit, "5 commit before", "5 abort before"),
        (CompleteAbort, "5 abort before", "5 commit before"),
    ] {
        let described = format!("{} 7:5", state.name());
        let old = |request| match (state, request) {
            (CompleteCommit, "4 commit") | (CompleteAbort, "4 abort") => "ok 7:5",
            _ => STATE,
        };
        check(
            loaded(state, Tv2),
            &[
                ("init", "-> Empty 7:6"),
                ("init now", "-> Empty 7:6"),
                // It has not heard the answer that its transaction ended.
                ("init before", "-> Empty 7:5"),
                ("init other", FENCED),
                ("add known", "-> Ongoing 7:5"),
                ("add new", "-> Ongoing 7:5"),
                ("add before", FENCED),
                ("add other", MAPPING),
                ("verify", ABORTABLE),
                ("verify before", FENCED),
                ("verify other", MAPPING),
                ("4 commit", old("4 commit")),
                ("4 abort", old("4 abort")),
                ("4 commit before", FENCED),
                ("4 commit other", MAPPING),
                ("5 commit", STATE),
                ("5 abort", "-> PrepareAbort 7:6"),
                (same, "ok 7:5"),
                (other, STATE),
                ("5 commit other", MAPPING),
                ("describe", &described),
            ],
        );
    }
}

/// A column in which nearly everything is answered alike.
fn check_all_but(rig: impl Fn() -> Rig, expected: &str, others: &[(&str, &str)]) {
    const ALL: [&str; 21] = [
        "init",
        "init now",
        "init before",
        "init other",
        "add known",
        "add new",
        "add before",
        "add other",
        "verify",
        "verify before",
        "verify other",
        "4 commit",
        "4 abort",
        "4 commit before",
        "4 commit other",
        "5 commit",
        "5 abort",
        "5 commit before",
        "5 abort before",
        "5 commit other",
        "describe",
    ];
    let column = ALL.map(|request| {
        let other = others.iter().find(|it| it.0 == request);
        (request, other.map_or(expected, |it| it.1))
    });
    check(rig, &column);
}

#[test]
fn unknown() {
    check_all_but(
        || Rig::new(Tv2, None),
        MAPPING,
        &[
            ("init", "-> Empty 100:0"),
            // The id expired since, or was never here: Kafka takes it for a new producer.
            ("init now", "-> Empty 100:0"),
            ("init before", "-> Empty 100:0"),
            ("init other", "-> Empty 100:0"),
            ("describe", "TRANSACTIONAL_ID_NOT_FOUND"),
        ],
    );
}

#[test]
fn loading() {
    let rig = || Rig::loading(Tv2, Some(&logged(Ongoing, Tv0)));
    check_all_but(rig, "COORDINATOR_LOAD_IN_PROGRESS", &[]);
}

#[test]
fn resigned() {
    let rig = || {
        let mut rig = Rig::new(Tv2, Some(&logged(Ongoing, Tv0)));
        assert_eq!(rig.machine.resign(), [Effect::Resigned]);
        rig
    };
    check_all_but(rig, "NOT_COORDINATOR", &[]);
}

#[test]
fn the_first_record_is_on_its_way() {
    let rig = || {
        let mut rig = Rig::new(Tv2, None);
        assert_eq!(brief(&rig.init(None)), "-> Empty 100:0");
        rig
    };
    let verified = [
        ("verify", MAPPING),
        ("verify before", MAPPING),
        ("verify other", MAPPING),
    ];
    let old = [
        ("4 commit", MAPPING),
        ("4 abort", MAPPING),
        ("4 commit before", MAPPING),
        ("4 commit other", MAPPING),
    ];
    let described = [("describe", "TRANSACTIONAL_ID_NOT_FOUND")];
    check_all_but(rig, BUSY, &[&verified[..], &old, &described].concat());
}

#[test]
fn a_record_is_on_its_way() {
    let unchanged = [
        ("verify", "NONE"),
        ("verify before", FENCED),
        ("verify other", MAPPING),
        ("4 commit before", FENCED),
        ("4 commit other", MAPPING),
        ("describe", "Ongoing 7:5"),
    ];
    let on_its_way: [fn(&mut Rig) -> Vec<Effect>; 4] = [
        |rig| rig.add(3, NOW, 1),
        |rig| rig.end(5, NOW, Decision::Commit),
        |rig| rig.init(None),
        |rig| {
            rig.now_ms += 60_000;
            rig.tick()
        },
    ];
    for begin in on_its_way {
        let rig = || {
            let mut rig = Rig::new(Tv2, Some(&logged(Ongoing, Tv0)));
            assert!(brief(&begin(&mut rig)).starts_with("-> "));
            rig
        };
        check_all_but(rig, BUSY, &unchanged);
    }

    // An id on its way out.
    let rig = || {
        let mut rig = Rig::new(Tv2, Some(&logged(Empty, Tv0)));
        rig.now_ms += Settings::KAFKA.id_expiration_ms;
        assert_eq!(brief(&rig.tick()), "tombstone");
        rig
    };
    let unchanged = [
        ("verify", ABORTABLE),
        ("verify before", FENCED),
        ("verify other", MAPPING),
        ("4 commit before", FENCED),
        ("4 commit other", MAPPING),
        ("describe", "Empty 7:5"),
    ];
    check_all_but(rig, BUSY, &unchanged);
}

#[test]
fn requests_that_cannot_be() {
    let mut rig = Rig::new(Tv2, None);
    let mut init = |transactional_id: &str, timeout_ms| {
        let init = InitProducerId {
            transactional_id,
            timeout_ms,
            resume: None,
        };
        let mut world = World {
            now_ms: 0,
            ids: &mut rig.ids,
        };
        let effects = rig.machine.init_producer_id(&mut world, RequestId(1), init);
        brief(&effects)
    };
    assert_eq!(init("", 1), "INVALID_REQUEST");
    assert_eq!(init(&"x".repeat(32_768), 1), "INVALID_REQUEST");
    assert_eq!(init("x", 0), "INVALID_TRANSACTION_TIMEOUT");
    assert_eq!(init("x", 900_001), "INVALID_TRANSACTION_TIMEOUT");
    assert_eq!(init("x", 900_000), "-> Empty 100:0");
    assert_eq!(init(&"x".repeat(32_767), 1), "-> Empty 101:0");

    use protocol::ErrorCode;
    assert_eq!(InitProducerId::resume(-1, -1), Ok(None));
    assert_eq!(InitProducerId::resume(7, 5), Ok(Some(NOW)));
    for (id, epoch) in [(-1, 5), (7, -1)] {
        let refused = Err(ErrorCode::InvalidRequest);
        assert_eq!(InitProducerId::resume(id, epoch), refused);
    }
    let empty = rig.machine.describe("");
    assert_eq!(empty, Err(ErrorCode::InvalidRequest));
}
