//! Brings trouble at random moments, one at a time.

use std::time::Duration;

use env::sim::{DiskSpeed, SimEntropy};
use tests::faults::{FaultSettings, Latency};
use tokio::time::sleep;

use crate::plan::Trouble;
use crate::world::Machine;

/// What the store does on a good day.
pub(crate) fn good_store() -> FaultSettings {
    let latency = Latency {
        median: Duration::from_millis(5),
        p99: Duration::from_millis(40),
    };
    FaultSettings {
        latency: Some(latency),
        ..FaultSettings::default()
    }
}

/// What it does on a bad one.
fn bad_store() -> FaultSettings {
    FaultSettings {
        unavailable: 0.15,
        lost_answers: 0.1,
        late_puts: 0.05,
        late_by: Duration::from_secs(7),
        truncated: 0.05,
        flipped: 0.02,
        listing_lag: Duration::from_secs(2),
        ..good_store()
    }
}

/// About as many reads as a start makes.
const READS_OF_A_START: u64 = 60;

/// How fast the disk is on a good day.
pub(crate) const GOOD_DISK: DiskSpeed = DiskSpeed {
    least: Duration::from_micros(50),
    most: Duration::from_micros(900),
};

/// Troubles the machine until the time is over.
pub(crate) async fn trouble(machine: &Machine, troubles: &[Trouble], random: &SimEntropy) {
    if troubles.is_empty() {
        return std::future::pending().await;
    }
    loop {
        sleep(Duration::from_millis(300 + random.below(4000))).await;
        let one = troubles[random.below(troubles.len() as u64) as usize];
        let lasting = Duration::from_millis(100 + random.below(9000));
        machine.say(&format!("TROUBLE {one:?} for {lasting:?}"));
        bring(machine, one, lasting, random).await;
    }
}

async fn bring(machine: &Machine, trouble: Trouble, lasting: Duration, random: &SimEntropy) {
    machine.count_fault();
    match trouble {
        Trouble::Kill => machine.kill(false),
        Trouble::PowerLoss => machine.kill(true),
        Trouble::Restart => machine.ask_to_stop(),
        Trouble::FlippedRead => {
            machine.kill(random.chance(50));
            let read = machine.disk().reads() + random.below(READS_OF_A_START);
            machine.disk().flip_read_at(read);
        }
        Trouble::Reset => machine.reset_connections(),
        Trouble::FailedSync => machine.disk().fail_next_sync(),
        Trouble::ClockJump => {
            let by = random.below(7_200_000) as i64 - 3_600_000;
            machine.clock().jump_wall(by);
        }
        Trouble::Partition => {
            machine.cut_clients();
            sleep(lasting).await;
            machine.heal_network();
        }
        Trouble::SlowDisk => {
            let slow = DiskSpeed {
                least: Duration::from_millis(5),
                most: Duration::from_millis(900),
            };
            machine.threads().set_speed(slow);
            sleep(lasting).await;
            machine.threads().set_speed(GOOD_DISK);
        }
        Trouble::StoreAway => {
            machine.store().set_faults(FaultSettings {
                away: true,
                ..good_store()
            });
            sleep(lasting).await;
            machine.store().set_faults(good_store());
        }
        Trouble::StoreFlaky => {
            machine.store().set_faults(bad_store());
            sleep(lasting).await;
            machine.store().set_faults(good_store());
        }
    }
}
