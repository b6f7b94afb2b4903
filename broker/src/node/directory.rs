//! The id of a data directory: one small file, made once, so that the controller can tell a restart
//! from a second process with the same node id.
//!
//! ```text
//!   directory.id: a UUID as text, and a line feed
//! ```
//!
//! One that is gone or cut short is drawn anew: that costs the wait for a lease, nothing else.

use std::io;
use std::path::Path;

use env::{Disk, Env, OpenMode};
use uuid::Uuid;

const NAME: &str = "directory.id";
const BYTES: usize = 37;

/// The id of `dir`, drawn if there is none.
pub(super) async fn id(env: &Env, dir: &Path) -> io::Result<Uuid> {
    let (disk, dir, fresh) = (env.disk.clone(), dir.to_owned(), env.entropy.uuid());
    let work = move || match read(&*disk, &dir)? {
        Some(standing) => Ok(standing),
        None => write(&*disk, &dir, fresh).map(|()| fresh),
    };
    env.threads.pool().run(work).await
}

fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Uuid>> {
    let path = dir.join(NAME);
    if disk.file_len(&path)? != Some(BYTES as u64) {
        return Ok(None);
    }
    let mut bytes = [0; BYTES];
    disk.open(&path, OpenMode::Read)?
        .read_exact_at(&mut bytes, 0)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let id = Uuid::try_parse(text.trim_end()).ok();
    Ok(id.filter(|id| !id.is_nil()))
}

fn write(disk: &dyn Disk, dir: &Path, id: Uuid) -> io::Result<()> {
    let new = dir.join(format!("{NAME}.new"));
    if disk.file_len(&new)?.is_some() {
        disk.remove_file(&new)?;
    }
    let file = disk.open(&new, OpenMode::CreateNew)?;
    file.write_all_at(format!("{id}\n").as_bytes(), 0)?;
    file.sync_data()?;
    drop(file);
    disk.rename(&new, &dir.join(NAME))?;
    disk.sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use env::sim::SimHost;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_id_stays_and_one_cut_short_is_drawn_anew() {
        let host = SimHost::alone(1);
        let (env, dir) = (host.env(), Path::new("/data"));
        env.disk.create_dir_all(dir).unwrap();
        env.disk.sync_dir(Path::new("/")).unwrap();
        let first = id(&env, dir).await.unwrap();
        host.disk.power_loss();
        assert_eq!(id(&host.env(), dir).await.unwrap(), first, "it is durable");
        let env = host.env();
        env.disk.remove_file(&dir.join(NAME)).unwrap();
        let file = env.disk.open(&dir.join(NAME), OpenMode::CreateNew).unwrap();
        file.write_all_at(b"short", 0).unwrap();
        let second = id(&env, dir).await.unwrap();
        assert_ne!(second, first);
        assert_eq!(id(&env, dir).await.unwrap(), second);
    }
}
