//! The voter's log, under the identity that belongs to it.

use env::{Env, IoThread};
use wal::WalId;

use super::ControllerSettings;
use crate::error::Error;
use crate::identity;
use crate::raft::{LogKeeper, LogStore};

/// Opens the log of `settings.dir`, or makes it in a directory that had none.
///
/// A log that was there once and is gone took its votes along. The voter must not come back as if
/// it remembered them: among several it becomes another one, which the others have to add; alone it
/// has lost the cluster.
pub(super) async fn open(
    env: &Env,
    files: &IoThread,
    settings: &ControllerSettings,
    node: u64,
) -> Result<(WalId, LogStore, LogKeeper), Error> {
    let (disk, dir, fresh) = (env.disk.clone(), settings.dir.clone(), env.entropy.uuid());
    let found = files
        .run(move || identity::open(&*disk, &dir, node, fresh))
        .await?;
    let log_dir = settings.dir.join("log");
    let id = found.log;
    if let Some((store, log)) = LogStore::open(env, &log_dir, id, !found.begun).await? {
        if !found.begun {
            publish(env, files, settings).await?;
        }
        return Ok((id, store, log));
    }
    if settings.voters.len() == 1 {
        return Err(Error::corrupt(
            log_dir.display().to_string(),
            "the log of this cluster's only voter is gone, and its metadata with it: put it back, \
             or restore the cluster from a checkpoint into an empty directory",
        ));
    }
    tracing::error!(
        log = %log_dir.display(),
        "the raft log is gone, and the votes in it: this is another voter now; have the old one \
         replaced with `headwater cluster remove-voter {node}` and `add-voter`"
    );
    let (disk, dir, fresh) = (env.disk.clone(), settings.dir.clone(), env.entropy.uuid());
    let new = files
        .run(move || identity::propose(&*disk, &dir, node, fresh))
        .await?;
    let made = LogStore::open(env, &log_dir, new.log, true).await?;
    let (store, log) = made.expect("a log that is not there is made");
    publish(env, files, settings).await?;
    Ok((new.log, store, log))
}

async fn publish(env: &Env, files: &IoThread, settings: &ControllerSettings) -> Result<(), Error> {
    let (disk, dir) = (env.disk.clone(), settings.dir.clone());
    files.run(move || identity::publish(&*disk, &dir)).await
}
