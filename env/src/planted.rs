//! Bugs that are planted on purpose, to show that the tests catch them.
//!
//! Without the feature `planted` every question is answered with a constant false, and nothing of a
//! bug is in the binary. With it, the variable `HEADWATER_PLANTED` chooses one bug for the whole
//! process, whichever test runs in it.

#[cfg(feature = "planted")]
static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// True when the bug of this name is planted in this process.
#[cfg(feature = "planted")]
pub fn is_planted(name: &str) -> bool {
    let read = || std::env::var("HEADWATER_PLANTED").unwrap_or_default();
    CHOSEN.get_or_init(read) == name
}

/// True when the bug of this name is planted in this process: never, in this build.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is_planted(_name: &str) -> bool {
    false
}

/// Whether the bug of this name is planted: false in every ordinary build.
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        $crate::is_planted($name)
    };
}
