//! Bugs that are planted on purpose, to show that the tests catch them.
//!
//! Without the feature `planted` every question is answered with a constant false, and nothing of a
//! bug is in the binary. With it, [`plant`] chooses one bug for the whole process.

#[cfg(feature = "planted")]
static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Plants the bug of this name, for as long as the process lives. The first one stays.
#[cfg(feature = "planted")]
pub fn plant(name: &str) {
    CHOSEN.get_or_init(|| name.to_owned());
}

/// True when the bug of this name is planted in this process.
#[cfg(feature = "planted")]
pub fn is_planted(name: &str) -> bool {
    CHOSEN.get().is_some_and(|chosen| chosen == name)
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
