//! Keeps appends away from the last bytes of a local disk, so that uploads and retention can free
//! it.

use std::sync::Weak;
use std::sync::atomic::Ordering;

use super::Shared;
use crate::Error;

/// Looks at free space now and then, while there is something to look after.
pub(super) async fn watch(shared: Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else {
            return;
        };
        let Some(reserve) = strong.settings.disk_reserve.clone() else {
            return;
        };
        let disk = strong.env.disk.clone();
        let path = reserve.path;
        let pool = strong.env.threads.pool();
        match pool.run(move || disk.available_bytes(&path)).await {
            Ok(available) => strong.disk_available.store(available, Ordering::Relaxed),
            Err(error) => {
                strong.metrics.background_failures.inc();
                tracing::warn!(%error, "free disk space is not known");
            }
        }
        drop(strong);
        tokio::time::sleep(reserve.interval).await;
    }
}

impl Shared {
    /// # Errors
    /// `DiskFull` when only the reserve is left.
    pub(crate) fn check_disk(&self) -> Result<(), Error> {
        let Some(reserve) = &self.settings.disk_reserve else {
            return Ok(());
        };
        let available = self.disk_available.load(Ordering::Relaxed);
        if available < reserve.bytes {
            return Err(Error::DiskFull {
                available,
                reserve: reserve.bytes,
            });
        }
        Ok(())
    }
}
