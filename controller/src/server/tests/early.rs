//! Renewals before their time.

use env::sim::SimHost;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;

/// Marks that are reported when told to be.
#[derive(Clone)]
struct Wanted {
    offset: Arc<Mutex<i64>>,
    told: Arc<Mutex<Vec<(i64, Instant)>>>,
    wanted: Arc<Notify>,
}

impl Marks for Wanted {
    fn moved(&mut self) -> Vec<HighWatermark> {
        let mark = HighWatermark {
            topic_partition: TP,
            leader_epoch: LeaderEpoch(0),
            offset: *self.offset.lock(),
        };
        vec![mark]
    }

    fn reported(&mut self, marks: &[HighWatermark]) {
        let told = marks.iter().map(|mark| (mark.offset, Instant::now()));
        self.told.lock().extend(told);
    }

    async fn wanted(&mut self) {
        self.wanted.notified().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_wanted_does_not_wait_for_its_time() {
    let host = SimHost::alone(2);
    let controller = Controller::start(host.env(), sim_settings()).await.unwrap();
    let client = controller.client();
    let broker = client.register(register(1), true).await.unwrap();
    let wal = WalId(Uuid::from_u128(5));
    let backend = WalBackend::Disk;
    let open = Command::OpenWal {
        broker,
        wal,
        backend,
    };
    client.submit(open).await.unwrap();
    client.submit(topic("logs")).await.unwrap();
    let marks = Wanted {
        offset: Arc::default(),
        told: Arc::default(),
        wanted: Arc::default(),
    };
    let keeper = client.keep_lease(broker, marks.clone()).await.unwrap();
    let third = keeper.lease().duration() / 3;
    // After a renewal in its time, when the next one is far.
    while marks.told.lock().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = marks.told.lock().len();
    for offset in [700_000, 1_400_000] {
        *marks.offset.lock() = offset;
        marks.wanted.notify_one();
        let asked = Instant::now();
        loop {
            if let Some((_, at)) = marks.told.lock().iter().find(|(told, _)| *told == offset) {
                assert!(*at - asked < third / 2, "it waited for its time");
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let shared = &client.local().shared;
        let reported = shared.read(|state| state.topics.partition(TP).unwrap().reported);
        assert_eq!(reported, offset);
    }
    assert_eq!(marks.told.lock().len(), before + 2);
    // The others come in their time after that.
    tokio::time::sleep(third * 3).await;
    let told = marks.told.lock().len() - before - 2;
    assert!((2..=3).contains(&told), "{told} renewals in three thirds");
    assert!(keeper.lease().valid_now());
    controller.shutdown().await.unwrap();
}
