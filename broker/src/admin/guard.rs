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
        // Controllers only have no other name.
        let voter = config.quorum.voters.get(&config.node_id);
        let calls = config.quorum.listener.as_ref();
        let calls = calls.map(|listener| &listener.bind);
        let all = listeners.chain([&config.admin]).chain(voter).chain(calls);
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
               listeners, advertised.listeners, admin.listen or controller.quorum.voters has for \
               this node";
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
    use axum::body::Body;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use parking_lot::RwLock;
    use prometheus_client::registry::Registry;
    use tokio::sync::watch;

    use super::*;
    use crate::admin::{Admin, pages};
    use crate::node::Status;

    /// What the pages of a controller answer with.
    async fn asked(method: &str, page: &str, host: Option<&str>) -> u16 {
        let listeners = "PLAINTEXT://127.0.0.1:9092,CONTROLLER://ctl-1.inside:9093";
        let config = Config::with(&[
            ("node.id", "1"),
            (
                "controller.quorum.voters",
                "1@CTL-1.example:9093,2@ctl-2.example:9093",
            ),
            ("listeners", listeners),
            ("object.store.url", "/shared"),
        ]);
        let (_status, watched) = watch::channel(Status::Ready);
        let registry = Arc::new(RwLock::new(Registry::default()));
        let admin = Admin::new(registry, watched, &config.unwrap());
        let mut request = Request::builder().method(method).uri(page);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        let request = request.body(Body::empty()).unwrap();
        let pages = TowerToHyperService::new(pages(Arc::new(admin)));
        pages.call(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn only_what_is_scraped_and_probed_may_be_looked_at_under_any_name() {
        let evil = Some("evil.example");
        for method in ["GET", "HEAD"] {
            for page in [
                "/v1/cluster",
                "/v1/cluster/",
                "/v1/brokers",
                "/v1/balance",
                "/status",
                "//metrics",
                "/metrics/",
                "/nowhere",
            ] {
                assert_eq!(asked(method, page, evil).await, 403, "{method} {page}");
            }
            for page in OPEN {
                assert_eq!(asked(method, page, evil).await, 200, "{method} {page}");
            }
            for host in [None, Some("localhost:9644"), Some("10.1.2.3:9644")] {
                assert_eq!(asked(method, "/status", host).await, 200, "{host:?}");
                // There is no cluster yet.
                assert_eq!(asked(method, "/v1/cluster", host).await, 503, "{host:?}");
            }
        }
        assert_eq!(
            asked("POST", "/metrics", evil).await,
            403,
            "looking is open, not doing"
        );
    }

    #[tokio::test]
    async fn a_controller_knows_the_name_that_the_voters_call_it_by() {
        for (host, code) in [
            ("ctl-1.example:9644", 200),
            ("ctl-1.inside:9644", 200),
            ("ctl-2.example:9644", 403),
        ] {
            assert_eq!(asked("GET", "/status", Some(host)).await, code, "{host}");
        }
    }

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
