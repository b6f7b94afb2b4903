//! Who may look, or have something done: whoever reaches the admin listener, but no web page in a
//! browser that does.
//!
//! A page on any site can have a browser on the operator's machine send requests to loopback or
//! into the operator's network. Three things give it away: without asking first it can send no JSON;
//! it cannot keep the browser from naming its `Origin`; and if it had its own name resolved to
//! this address (DNS rebinding), that name stands as `Host`. Only with its own name can it read the
//! answer, so looking asks for that alone; `/metrics` and the two pages of probes are open under
//! any name, because whoever scrapes a cluster has names of its own for the nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::config::Config;

/// Pages that may be looked at under any name.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// What a request is refused with.
type Judged = Result<(), (StatusCode, &'static str)>;

/// Names under which this node may be asked, besides addresses and `localhost`.
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// Those that the configuration knows.
    pub(super) fn of(config: &Config) -> Self {
        let listeners = config.listeners.iter().flat_map(|listener| {
            let advertised = listener.advertised.as_ref();
            advertised.into_iter().chain([&listener.bind])
        });
        let all = listeners.chain([&config.admin]);
        Self(all.map(|at| at.host.to_lowercase()).collect())
    }

    fn hold(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        let name = name.trim_end_matches('.').to_lowercase();
        name == "localhost" || name.parse::<IpAddr>().is_ok() || self.0.contains(&name)
    }
}

/// Lets those pass that no page can have sent, or read the answer to.
pub(super) async fn guard(
    State(names): State<Arc<Names>>,
    request: Request,
    next: Next,
) -> Response {
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let judged = match (looks, OPEN.contains(&request.uri().path())) {
        (true, true) => Ok(()),
        (true, false) => check_host(&names, request.headers()),
        (false, _) => judge(&names, request.headers()),
    };
    match judged {
        Ok(()) => next.run(request).await,
        Err((code, why)) => (code, format!("{why}\n")).into_response(),
    }
}

/// The value of a header; one that is no text is none of ours.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or(""))
}

fn check_host(names: &Names, headers: &HeaderMap) -> Judged {
    if text(headers, header::HOST).is_none_or(|host| names.hold(host)) {
        return Ok(());
    }
    let why = "Host names nobody here: ask by address, as localhost, or by a name that \
               listeners, advertised.listeners or admin.listen has";
    Err((StatusCode::FORBIDDEN, why))
}

fn judge(names: &Names, headers: &HeaderMap) -> Judged {
    if text(headers, header::ORIGIN).is_some() {
        let why = "a request with an Origin comes from a web page: nothing is done for it";
        return Err((StatusCode::FORBIDDEN, why));
    }
    check_host(names, headers)?;
    let kind = text(headers, header::CONTENT_TYPE).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let why = "send content-type: application/json";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_refused_and_tools_are_not() {
        let names = Names(BTreeSet::from(["hw-1.example".to_owned()]));
        let judged = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            judge(&names, &headers).map_err(|(code, _)| code.as_u16())
        };
        let json = ("content-type", "application/json");
        for host in [
            "127.0.0.1:9644",
            "10.1.2.3",
            "[::1]:9644",
            "localhost:9644",
            "HW-1.example.:9644",
        ] {
            assert_eq!(judged(&[("host", host), json]), Ok(()), "{host}");
        }
        assert_eq!(judged(&[json]), Ok(()));
        let utf8 = ("content-type", "Application/JSON; charset=utf-8");
        assert_eq!(judged(&[("host", "localhost"), utf8]), Ok(()));
        for host in ["evil.example", "127.0.0.1.evil.example:9644", "", "[evil]"] {
            assert_eq!(judged(&[("host", host), json]), Err(403), "{host}");
        }
        let local = ("host", "127.0.0.1:9644");
        for origin in ["http://evil.example", "http://127.0.0.1:9644", "null"] {
            assert_eq!(judged(&[local, json, ("origin", origin)]), Err(403));
        }
        let form = ("content-type", "application/x-www-form-urlencoded");
        for line in [
            local,
            form,
            ("content-type", "text/plain"),
            ("content-type", "x/y+json"),
        ] {
            assert_eq!(judged(&[local, line]), Err(415), "{line:?}");
        }
    }
}
