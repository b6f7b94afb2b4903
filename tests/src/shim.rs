//! A disk that fails on demand under the real binary: a small C library (`tests/shim`), compiled
//! here and preloaded into the broker, stands in front of libc's file calls.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The compiled library and its control file.
#[derive(Debug)]
pub struct DiskFaults {
    library: PathBuf,
    control: PathBuf,
}

impl DiskFaults {
    /// Compiles the library into `dir`.
    ///
    /// # Errors
    /// When there is no C compiler `cc`.
    pub fn new(dir: &Path) -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/disk_faults.c");
        let library = dir.join("disk_faults.so");
        let output = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(&source)
            .args(["-ldl", "-lpthread"])
            .output()
            .context("cannot run cc")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cc: {errors}");
        let control = dir.join("disk_faults");
        Ok(Self { library, control })
    }

    /// What a broker's environment needs.
    pub fn environment(&self) -> Vec<(String, PathBuf)> {
        vec![
            ("LD_PRELOAD".to_owned(), self.library.clone()),
            ("DISK_FAULTS".to_owned(), self.control.clone()),
        ]
    }

    /// Every sync below `path` fails from now on.
    ///
    /// # Errors
    /// The system's.
    pub fn fail_syncs(&self, path: &Path) -> Result<()> {
        self.set(&format!("sync 0 {}\n", path.display()))
    }

    /// Every sync below `path` waits until [`DiskFaults::heal`].
    ///
    /// # Errors
    /// The system's.
    pub fn hang_syncs(&self, path: &Path) -> Result<()> {
        self.set(&format!("hang 0 {}\n", path.display()))
    }

    /// Every sync below `path` takes `longer` from now on.
    ///
    /// # Errors
    /// The system's.
    pub fn slow_syncs(&self, path: &Path, longer: Duration) -> Result<()> {
        self.set(&format!("hang {} {}\n", longer.as_millis(), path.display()))
    }

    /// Files below `path` can grow by no more than `bytes` since their process began.
    ///
    /// # Errors
    /// The system's.
    pub fn fill(&self, path: &Path, bytes: u64) -> Result<()> {
        self.set(&format!("full {bytes} {}\n", path.display()))
    }

    /// Nothing fails any more.
    ///
    /// # Errors
    /// The system's.
    pub fn heal(&self) -> Result<()> {
        Ok(std::fs::remove_file(&self.control)?)
    }

    /// Swapped whole, so that no call sees half of it.
    fn set(&self, faults: &str) -> Result<()> {
        let new = self.control.with_extension("new");
        std::fs::write(&new, faults)?;
        Ok(std::fs::rename(&new, &self.control)?)
    }
}
