//! Every backend passes the suite.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use env::Env;
use env::sim::SimHost;

use super::{Backend, disk, memory, object};
use crate::conformance::{self, Subject};
use crate::testing::{FaultStore, run_paused};
use crate::{Error, Sequence, Tail, WalId};

const TINY: disk::DiskSettings = disk::DiskSettings {
    segment_bytes: 64 * 1024,
    first_segment_bytes: 16 * 1024,
    ..disk::DiskSettings::STANDARD
};

struct SimulatedDisk(SimHost);

#[async_trait]
impl Subject for SimulatedDisk {
    fn env(&self) -> Env {
        self.0.env()
    }
    async fn create(&self, wal_id: WalId) -> Result<Box<dyn Backend>, Error> {
        disk::create(&self.env(), Path::new("/wal"), wal_id, TINY).await
    }
    async fn recover(&self, wal_id: WalId, trim: Sequence) -> Result<Option<Tail>, Error> {
        disk::recover(&self.env(), Path::new("/wal"), wal_id, trim)
            .await
            .map(Some)
    }
    fn kill(&self) {
        self.0.disk.power_loss();
    }
}

struct RealDisk(PathBuf);

#[async_trait]
impl Subject for RealDisk {
    fn env(&self) -> Env {
        env::real::env()
    }
    async fn create(&self, wal_id: WalId) -> Result<Box<dyn Backend>, Error> {
        disk::create(&self.env(), &self.0, wal_id, TINY).await
    }
    async fn recover(&self, wal_id: WalId, trim: Sequence) -> Result<Option<Tail>, Error> {
        loop {
            // A writer that was dropped and not closed may have its last job still to run.
            match disk::recover(&self.env(), &self.0, wal_id, trim).await {
                Err(Error::Locked { .. }) => tokio::task::yield_now().await,
                result => return result.map(Some),
            }
        }
    }
    fn kill(&self) {}
}

struct Objects {
    host: SimHost,
    store: FaultStore,
}

const SETTINGS: object::ObjectSettings = object::ObjectSettings::STANDARD;

#[async_trait]
impl Subject for Objects {
    fn env(&self) -> Env {
        self.host.env()
    }
    async fn create(&self, wal_id: WalId) -> Result<Box<dyn Backend>, Error> {
        let store = Arc::new(self.store.clone());
        Ok(object::create(
            &self.env(),
            store,
            "p/wal/1".into(),
            wal_id,
            SETTINGS,
        ))
    }
    async fn recover(&self, wal_id: WalId, trim: Sequence) -> Result<Option<Tail>, Error> {
        let store = Arc::new(self.store.clone());
        let prefix = "p/wal/1".to_owned();
        object::recover(&self.env(), store, prefix, wal_id, trim, SETTINGS)
            .await
            .map(Some)
    }
    fn kill(&self) {}
}

struct Memory(SimHost);

#[async_trait]
impl Subject for Memory {
    fn env(&self) -> Env {
        self.0.env()
    }
    async fn create(&self, _: WalId) -> Result<Box<dyn Backend>, Error> {
        Ok(memory::create())
    }
    async fn recover(&self, _: WalId, _: Sequence) -> Result<Option<Tail>, Error> {
        Ok(None)
    }
    fn kill(&self) {}
}

#[test]
fn the_disk_backend_conforms_on_a_simulated_disk() {
    run_paused(async { conformance::run(&SimulatedDisk(SimHost::alone(1))).await });
}

#[tokio::test]
async fn the_disk_backend_conforms_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(&RealDisk(dir.path().to_owned())).await;
}

#[test]
fn the_object_backend_conforms() {
    run_paused(async {
        let subject = Objects {
            host: SimHost::alone(2),
            store: FaultStore::default(),
        };
        conformance::run(&subject).await;
    });
}

#[test]
fn the_memory_backend_conforms_but_for_durability() {
    run_paused(async { conformance::run(&Memory(SimHost::alone(3))).await });
}
