//! Brokers: epochs given, fenced and forgotten.

use protocol::{BrokerEpoch, NodeId};
use wal::WalId;

use super::{Answer, Effects, Ending, State, WalPhase, check_length};
use crate::command::{Load, RegisterBroker, Response};
use crate::error::Refusal;
use crate::limits::{MAX_LISTENERS, MAX_SESSIONS};

/// One epoch of one broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) register: RegisterBroker,
    pub(crate) registered_ms: i64,
    /// No command of this epoch is accepted any more.
    pub(crate) fenced: bool,
    /// It stops: it gives its partitions away and takes none.
    pub(crate) leaving: bool,
    /// How busy what it leads is, by its last report.
    pub(crate) loads: Vec<Load>,
    /// Its log: at most one in an epoch's life (R1).
    pub(crate) wal: Option<WalId>,
}

impl State {
    pub(super) fn register_broker(
        &mut self,
        register: &RegisterBroker,
        now_ms: i64,
        effects: &mut Effects,
    ) -> Answer {
        check_registration(register)?;
        let same = |broker: &Broker| broker.register.node == register.node && !broker.fenced;
        let standing: Vec<_> = self
            .brokers
            .iter()
            .filter(|(_, b)| same(b))
            .map(|(epoch, _)| *epoch)
            .collect();
        if standing.is_empty() && self.brokers.len() >= MAX_SESSIONS {
            return Err(Refusal::limit("brokers"));
        }
        if let [epoch] = standing[..]
            && self.brokers[&epoch].register.incarnation == register.incarnation
        {
            return Ok(Response::Registered { broker: epoch });
        }
        for epoch in standing {
            self.fence(epoch, Ending::Death, effects);
        }
        if let Some(epoch) = register.lived {
            self.lived(register.node, epoch, effects);
        }
        if self.last_broker_epoch == 0 || !env::planted!("broker-epoch-given-twice") {
            self.last_broker_epoch += 1;
        }
        let broker = BrokerEpoch(self.last_broker_epoch);
        self.brokers.insert(
            broker,
            Broker {
                register: register.clone(),
                registered_ms: now_ms,
                fenced: false,
                leaving: false,
                loads: Vec::new(),
                wal: None,
            },
        );
        effects.brokers = true;
        self.assign_waiting(effects);
        Ok(Response::Registered { broker })
    }

    pub(super) fn fence_broker(
        &mut self,
        broker: BrokerEpoch,
        ending: Ending,
        effects: &mut Effects,
    ) -> Answer {
        if broker.0 == 0 || broker.0 > self.last_broker_epoch {
            return Err(Refusal::invalid(format!(
                "broker epoch {broker} was never given"
            )));
        }
        if self
            .brokers
            .get(&broker)
            .is_some_and(|broker| !broker.fenced)
        {
            self.fence(broker, ending, effects);
            self.assign_waiting(effects);
        }
        Ok(Response::Done)
    }

    /// From here on no commit of `epoch` is accepted. Its partitions wait for its log's end.
    fn fence(&mut self, epoch: BrokerEpoch, ending: Ending, effects: &mut Effects) {
        self.leave_logs(epoch, ending, effects);
        let broker = self.brokers.get_mut(&epoch).expect("the caller found it");
        broker.fenced = true;
        effects.brokers = true;
        let awaits = broker.wal.filter(|wal| {
            let wal = self
                .wals
                .get_mut(wal)
                .expect("a broker's log is kept while it is open");
            if wal.phase == WalPhase::Active {
                wal.phase = WalPhase::Fenced;
            }
            !wal.phase.is_closed()
        });
        for topic in self.topics.iter_mut() {
            let mut touched = false;
            for partition in &mut topic.partitions {
                if partition.leader == Some(epoch) {
                    partition.leader = None;
                    partition.awaits = awaits.filter(|_| !env::planted!("opened-before-closed"));
                    touched = true;
                }
            }
            if touched {
                effects.topics.insert(topic.id);
            }
        }
        self.forget_broker(epoch);
    }

    /// Forgets a broker that is fenced and whose log is closed: nothing can come of it any more.
    pub(super) fn forget_broker(&mut self, epoch: BrokerEpoch) {
        let Some(broker) = self.brokers.get(&epoch) else {
            return;
        };
        let open = broker.wal.and_then(|wal| self.wals.get(&wal));
        if broker.fenced && open.is_none_or(|wal| wal.phase.is_closed()) {
            self.brokers.remove(&epoch);
        }
    }

    /// The broker, when its epoch is not fenced.
    pub(super) fn live_broker(&self, broker: BrokerEpoch) -> Result<&Broker, Refusal> {
        match self.brokers.get(&broker) {
            Some(found) if !found.fenced => Ok(found),
            _ => Err(Refusal::StaleBroker { broker }),
        }
    }

    /// True when nothing of this epoch can ever be committed: fenced, and its log closed.
    pub(crate) fn epoch_is_closed(&self, broker: BrokerEpoch) -> bool {
        (1..=self.last_broker_epoch).contains(&broker.0) && !self.brokers.contains_key(&broker)
    }

    /// Brokers that can lead: live, with an active log; by node.
    pub(super) fn leaders(&self) -> Vec<(NodeId, BrokerEpoch)> {
        let mut leaders = Vec::new();
        for (epoch, broker) in &self.brokers {
            let wal = broker.wal.and_then(|wal| self.wals.get(&wal));
            if !broker.fenced && wal.is_some_and(|wal| wal.phase == WalPhase::Active) {
                leaders.push((broker.register.node, *epoch));
            }
        }
        leaders
    }
}

fn check_registration(register: &RegisterBroker) -> Result<(), Refusal> {
    if register.node.0 < 0 {
        return Err(Refusal::invalid(format!("node id {}", register.node)));
    }
    if register.listeners.len() > MAX_LISTENERS {
        return Err(Refusal::limit("listeners"));
    }
    for listener in &register.listeners {
        check_length("listener name", &listener.name)?;
        check_length("host", &listener.host)?;
        check_length("security protocol", &listener.protocol)?;
    }
    match &register.rack {
        Some(rack) => check_length("rack", rack),
        None => Ok(()),
    }
}
