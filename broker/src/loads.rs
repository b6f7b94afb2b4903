//! Tells the controllers now and then how busy the partitions led here are: what the balancer
//! decides by.

use std::collections::BTreeMap;
use std::sync::Arc;

use controller::{BalancerSettings, Command, Load, MoveCommand};
use protocol::{LeaderEpoch, TopicPartition};
use storage::Traffic;
use tokio::time::{Duration, Instant, sleep};

use crate::broker::{Broker, Epoch};
use crate::config::Config;
use crate::limits::REPORTED_LOADS;

/// What the configuration says of the balancer; `None` when it is off.
pub(crate) fn balancer(config: &Config) -> Option<BalancerSettings> {
    if config.values.text("balancer.enable") != "true" {
        return None;
    }
    Some(settings(config))
}

/// The same, whether it is on or not.
pub(crate) fn settings(config: &Config) -> BalancerSettings {
    let number = |name: &str| u64::try_from(config.values.number(name)).unwrap_or(1);
    BalancerSettings {
        interval: interval(config),
        moves: usize::try_from(number("balancer.moves.per.minute")).unwrap_or(usize::MAX),
        threshold_percent: number("balancer.threshold.percent"),
    }
}

fn interval(config: &Config) -> Duration {
    config
        .time("balancer.interval.ms")
        .unwrap_or(Duration::from_secs(60))
}

/// Reports until dropped. A report that fails is not repeated: the next one takes its place.
pub(crate) async fn report(broker: Arc<Broker>, epoch: Arc<Epoch>) {
    let pause = interval(&broker.config) / 4;
    let mut meter = Meter::default();
    loop {
        sleep(pause).await;
        let image = broker.image();
        let led = epoch.storage.partitions();
        let counted = led.iter().map(|p| {
            let key = (p.topic_partition(), p.leader_epoch());
            (key, p.traffic())
        });
        let loads = meter.rates(Instant::now(), counted.collect());
        // Alone, nobody could take anything.
        if image.level() < 2 || image.live_brokers().count() < 2 || !meter.is_news(&loads) {
            continue;
        }
        let command = Command::Move(MoveCommand::ReportLoads {
            broker: epoch.id,
            loads: loads.clone(),
        });
        match broker.controller.submit(command).await {
            Ok(_) => meter.reported = loads,
            Err(error) => tracing::debug!(%error, "loads not reported this time"),
        }
    }
}

type Counts = BTreeMap<(TopicPartition, LeaderEpoch), Traffic>;

/// Makes rates of counters.
#[derive(Default)]
struct Meter {
    last: Option<(Instant, Counts)>,
    reported: Vec<Load>,
}

impl Meter {
    /// Rates since the last call, the busiest first, as many as one report holds.
    fn rates(&mut self, now: Instant, counts: Counts) -> Vec<Load> {
        let Some((since, before)) = self.last.take() else {
            self.last = Some((now, counts));
            return Vec::new();
        };
        let ms = u64::try_from((now - since).as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let rate = |now: u64, then: u64| now.saturating_sub(then).saturating_mul(1000) / ms;
        let mut loads = Vec::new();
        for (key, now) in &counts {
            let then = before.get(key).copied().unwrap_or_default();
            let load = Load {
                topic_partition: key.0,
                bytes_in: rate(now.bytes_in, then.bytes_in),
                bytes_out: rate(now.bytes_out, then.bytes_out),
                requests: rate(
                    now.requests.saturating_mul(1000),
                    then.requests.saturating_mul(1000),
                ),
            };
            if [load.bytes_in, load.bytes_out, load.requests] != [0; 3] {
                loads.push(load);
            }
        }
        self.last = Some((now, counts));
        let busy = |load: &Load| (load.bytes_in.saturating_add(load.bytes_out), load.requests);
        loads.sort_by_key(|load| std::cmp::Reverse(busy(load)));
        loads.truncate(REPORTED_LOADS);
        loads
    }

    /// Idleness is told once.
    fn is_news(&self, loads: &[Load]) -> bool {
        !loads.is_empty() || !self.reported.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use protocol::TopicId;
    use uuid::Uuid;

    use super::*;

    fn counts(of: &[(i32, u64)]) -> Counts {
        let one = |(partition, bytes): &(i32, u64)| {
            let tp = TopicPartition::new(TopicId(Uuid::from_u128(1)), *partition);
            let traffic = Traffic {
                bytes_in: *bytes,
                bytes_out: 0,
                requests: 1,
            };
            ((tp, LeaderEpoch(0)), traffic)
        };
        of.iter().map(one).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn counters_become_rates_the_busiest_first() {
        let mut meter = Meter::default();
        let now = Instant::now();
        meter.rates(now, counts(&[(0, 500), (1, 0)]));
        let later = now + Duration::from_secs(10);
        let loads = meter.rates(later, counts(&[(0, 1500), (1, 9000)]));
        let told: Vec<_> = loads
            .iter()
            .map(|l| (l.topic_partition.partition, l.bytes_in))
            .collect();
        assert_eq!(told, [(1, 900), (0, 100)]);
        assert!(meter.is_news(&loads));
        let loads = meter.rates(
            later + Duration::from_secs(5),
            counts(&[(0, 1500), (1, 9000)]),
        );
        assert_eq!(loads, []);
        assert!(!meter.is_news(&loads), "nothing was ever reported");
        meter.reported = meter.rates(later + Duration::from_secs(6), counts(&[(0, 9999)]));
        assert!(meter.is_news(&[]), "that it is idle now");
    }
}
