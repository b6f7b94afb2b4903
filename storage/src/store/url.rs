//! Which store: `file:///dir`, a plain path, `memory:`, `s3://bucket/prefix?…`, `gs://…`, `az://…`.

use std::path::PathBuf;

use url::Url;

use crate::Error;

/// A parsed store URL. `Display` and `Debug` show no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A directory on this machine.
    File {
        /// The directory.
        directory: PathBuf,
    },
    /// This process's memory: gone with it.
    Memory,
    /// A bucket or container.
    Cloud {
        /// Whose.
        provider: Provider,
        /// Bucket or container.
        bucket: String,
        /// Key prefix without slashes at its ends; may be empty.
        prefix: String,
        /// Settings of the provider by name, in the order given.
        settings: Vec<(String, String)>,
    },
}

/// Whose object storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Provider {
    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

/// Settings whose values may be shown.
const PUBLIC: &[&str] = &[
    "endpoint",
    "base_url",
    "region",
    "path_style",
    "allow_http",
    "unsigned_payload",
    "skip_signature",
    "account_name",
    "use_emulator",
    "metadata_endpoint",
    "imdsv1_fallback",
];

impl StoreUrl {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`Error::StoreUrl`], which says what is wrong without repeating secrets.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(refuse("it is empty"));
        }
        if text == "memory:" || text == "memory://" {
            return Ok(Self::Memory);
        }
        if text.starts_with('/') || text.starts_with('.') || !text.contains(':') {
            return Ok(Self::File {
                directory: PathBuf::from(text),
            });
        }
        // The parser's error never holds the text, which may hold keys.
        let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
        match url.scheme() {
            "file" => Self::parse_file(&url),
            "s3" | "s3a" => Self::parse_cloud(Provider::S3, &url),
            "gs" | "gcs" => Self::parse_cloud(Provider::Gcs, &url),
            "az" | "azure" => Self::parse_cloud(Provider::Azure, &url),
            other => Err(refuse(&format!(
                "scheme \"{other}\" is not known; use a path, file:///dir, memory:, \
                 s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
            ))),
        }
    }

    fn parse_file(url: &Url) -> Result<Self, Error> {
        if url.query().is_some() {
            return Err(refuse("a file URL takes no settings"));
        }
        let directory = url
            .to_file_path()
            .map_err(|()| refuse("a file URL has three slashes and an absolute path"))?;
        Ok(Self::File { directory })
    }

    fn parse_cloud(provider: Provider, url: &Url) -> Result<Self, Error> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse(
                "credentials go into settings or the environment, not before '@'",
            ));
        }
        let bucket = url.host_str().unwrap_or_default().to_owned();
        if bucket.is_empty() {
            let scheme = provider.scheme();
            return Err(refuse(&format!("no bucket: {scheme}://bucket/prefix")));
        }
        let prefix = url.path().trim_matches('/').to_owned();
        object_store::path::Path::parse(&prefix)
            .map_err(|_| refuse("the prefix holds empty, '.' or '..' parts"))?;
        // Others are spelled differently in keys and in listings.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=".contains(c);
        if !prefix.chars().all(plain) {
            return Err(refuse(
                "the prefix holds other than letters, digits and / . _ - =",
            ));
        }
        let settings = url
            .query_pairs()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        Ok(Self::Cloud {
            provider,
            bucket,
            prefix,
            settings,
        })
    }

    /// Prefix of all keys; empty for `file` and `memory`, which are all ours.
    pub fn prefix(&self) -> &str {
        match self {
            Self::File { .. } | Self::Memory => "",
            Self::Cloud { prefix, .. } => prefix,
        }
    }
}

impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { directory } => write!(f, "{}", directory.display()),
            Self::Memory => f.write_str("memory:"),
            Self::Cloud {
                provider,
                bucket,
                prefix,
                settings,
            } => {
                write!(f, "{}://{bucket}/{prefix}", provider.scheme())?;
                let shown = settings.iter().map(|(name, value)| {
                    let public = PUBLIC.contains(&name.as_str());
                    format!("{name}={}", if public { value } else { "***" })
                });
                for (n, setting) in shown.enumerate() {
                    write!(f, "{}{setting}", if n == 0 { '?' } else { '&' })?;
                }
                Ok(())
            }
        }
    }
}

impl std::fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

pub(super) fn refuse(reason: &str) -> Error {
    Error::StoreUrl {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_schemes() {
        let file = |path: &str| StoreUrl::File {
            directory: PathBuf::from(path),
        };
        assert_eq!(StoreUrl::parse("/var/data").unwrap(), file("/var/data"));
        assert_eq!(StoreUrl::parse("./data").unwrap(), file("./data"));
        assert_eq!(
            StoreUrl::parse("data/objects").unwrap(),
            file("data/objects")
        );
        assert_eq!(
            StoreUrl::parse("file:///var/data").unwrap(),
            file("/var/data")
        );
        assert_eq!(StoreUrl::parse("memory:").unwrap(), StoreUrl::Memory);
        let url = StoreUrl::parse("s3://b/p/q/?region=eu-1&path_style=true").unwrap();
        assert_eq!(url.prefix(), "p/q");
        assert_eq!(url.to_string(), "s3://b/p/q?region=eu-1&path_style=true");
        assert_eq!(StoreUrl::parse("gs://b").unwrap().to_string(), "gs://b/");
    }

    #[test]
    fn secrets_are_not_shown() {
        let url =
            StoreUrl::parse("s3://b?access_key_id=AKIA&secret_access_key=hush&token=t0").unwrap();
        for shown in [url.to_string(), format!("{url:?}")] {
            assert!(!shown.contains("hush") && !shown.contains("AKIA") && !shown.contains("t0"));
        }
        let error = StoreUrl::parse("s3://key:hush@b/").unwrap_err().to_string();
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "empty"),
            ("ftp://x/", "not known"),
            ("s3:///x", "bucket"),
            ("file:///x?a=b", "no settings"),
            ("s3://b/a//b", "prefix"),
            ("s3://b/a b", "letters"),
        ] {
            let error = StoreUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
