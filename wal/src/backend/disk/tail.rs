//! Reading the tail of a log on disk.

use std::path::Path;

use async_trait::async_trait;
use env::{DirLock, Env, IoThread};

use crate::record::Body;
use crate::recovery::{Source, Tail, TailReport};
use crate::segment::Scanner;
use crate::{Error, Group, Sequence, WalId};

/// Opens the log `wal_id` of `{dir}/{wal_id}` for reading from group `trim` on, and locks it.
///
/// # Errors
/// `Missing` or `Foreign` for an empty or wrong volume, `Locked` while its writer lives,
/// `Corrupt`, `Io`.
pub async fn recover(env: &Env, dir: &Path, wal_id: WalId, trim: Sequence) -> Result<Tail, Error> {
    let dir = dir.join(wal_id.to_string());
    let disk = env.disk.clone();
    let thread = env.threads.io_thread("wal-recover");
    let (scanner, lock) = thread
        .run(move || {
            if disk
                .file_len(&dir)
                .map_err(|e| Error::io("look at", &dir, e))?
                .is_none()
            {
                let reason = "its directory is not there".to_owned();
                return Err(Error::Missing {
                    path: dir,
                    wal_id,
                    reason,
                });
            }
            let lock = super::lock(&*disk, &dir)?;
            Ok((Scanner::open(&disk, &dir, wal_id, Some(trim))?, lock))
        })
        .await?;
    Ok(Tail::new(Box::new(DiskTail {
        thread,
        scanner: Some(scanner),
        trim,
        _lock: lock,
    })))
}

struct DiskTail {
    thread: IoThread,
    /// Away while a job reads.
    scanner: Option<Scanner>,
    trim: Sequence,
    _lock: Box<dyn DirLock>,
}

#[async_trait]
impl Source for DiskTail {
    async fn next(&mut self) -> Result<Option<Group>, Error> {
        let mut scanner = self
            .scanner
            .take()
            .expect("a tail is not read again after a cancel");
        let (scanner, result) = self
            .thread
            .run(move || {
                let result = next_group(&mut scanner);
                (scanner, result)
            })
            .await;
        let report = scanner.report();
        let place = scanner.place();
        self.scanner = Some(scanner);
        let group = result?;
        if group.is_none() && report.end < self.trim {
            let wal_id = self.scanner.as_ref().expect("put back above").wal_id();
            let reason = format!("it ends below the trim point {}", self.trim);
            return Err(Error::Corrupt {
                wal_id,
                sequence: report.end,
                place,
                reason,
            });
        }
        Ok(group)
    }

    fn report(&self) -> TailReport {
        let report = self.scanner.as_ref().expect("put back by next").report();
        let (end, ending, groups, bytes) = (report.end, report.ending, report.groups, report.bytes);
        TailReport {
            end,
            ending,
            groups,
            bytes,
        }
    }
}

fn next_group(scanner: &mut Scanner) -> Result<Option<Group>, Error> {
    while let Some(frame) = scanner.next()? {
        let sequence = frame.group.header.meta.sequence;
        match frame.group.body {
            Body::Entries(entries) => return Ok(Some(Group { sequence, entries })),
            Body::Mark => {}
            Body::Records(_) => {
                let wal_id = scanner.wal_id();
                let reason = "a group of records in a log of entries".to_owned();
                let place = frame.path.display().to_string();
                return Err(Error::Corrupt {
                    wal_id,
                    sequence,
                    place,
                    reason,
                });
            }
        }
    }
    Ok(None)
}
