//! The alerts of the chart, by so much of Prometheus as they use: what a rule would say of two looks
//! at `/metrics`. How long it must hold (`for`) is left to Prometheus.

use std::collections::BTreeMap;
use std::time::Instant;

use super::book::file;

/// `name`, labels as they are written, value.
type Line = (String, String, f64);

/// What every pod that should run shows at one moment; nothing of one that does not answer.
#[derive(Clone)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) pods: BTreeMap<String, Option<Vec<Line>>>,
}

/// The lines of `/metrics`.
pub(super) fn parse(page: &str) -> Vec<Line> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').to_owned();
        Some((name.to_owned(), labels, value.parse().ok()?))
    });
    lines.collect()
}

// === impl Look ===

impl Look {
    /// Sum of a metric at one pod; `None` when it does not answer.
    pub(super) fn of(&self, pod: &str, metric: &str) -> Option<f64> {
        let lines = self.pods[pod].as_ref()?.iter();
        let lines = lines.filter(|(name, ..)| name == metric);
        Some(lines.map(|(.., value)| value).sum())
    }

    /// The same over all that answer.
    pub(super) fn sum(&self, metric: &str) -> f64 {
        let pods = self.pods.keys();
        pods.filter_map(|pod| self.of(pod, metric)).sum()
    }

    fn select(&self, selector: &Selector, pods: &[&String]) -> f64 {
        if selector.metric == "up" {
            let up = pods.iter().filter(|pod| self.pods[**pod].is_some());
            return up.count() as f64;
        }
        let lines = pods.iter().filter_map(|pod| self.pods[*pod].as_ref());
        let lines = lines.flatten().filter(|line| selector.matches(line));
        lines.map(|(.., value)| value).sum()
    }
}

struct Selector {
    metric: String,
    /// Label, and its possible values.
    labels: Vec<(String, Vec<String>)>,
}

// === impl Selector ===

impl Selector {
    fn parse(text: &str) -> Self {
        let (metric, labels) = text.split_once('{').unwrap_or((text, ""));
        let labels = labels.trim_end_matches('}').split(',');
        let labels = labels.filter_map(|label| {
            let (name, values) = label.split_once('=')?;
            let values = values.trim_start_matches('~').trim_matches('"').split('|');
            Some((name.to_owned(), values.map(str::to_owned).collect()))
        });
        Self {
            metric: metric.trim().to_owned(),
            labels: labels.collect(),
        }
    }

    fn matches(&self, (name, labels, _): &Line) -> bool {
        let has = |(label, values): &(String, Vec<String>)| {
            let pair = |value: &String| labels.contains(&format!("{label}=\"{value}\""));
            values.iter().any(pair)
        };
        *name == self.metric && self.labels.iter().all(has)
    }
}

/// A rule, and the page that it names.
pub(super) struct Alert {
    pub(super) name: String,
    pub(super) expression: String,
    pub(super) runbook: String,
}

/// Two looks, and the pods of which a rule speaks.
struct Eyes<'a> {
    before: &'a Look,
    now: &'a Look,
    pods: Vec<&'a String>,
}

// === impl Alert ===

impl Alert {
    pub(super) fn all() -> Vec<Self> {
        let text = file("deploy/helm/headwater/files/alerts.yaml");
        let text = std::fs::read_to_string(text).unwrap();
        let rules = text.split("- alert: ").skip(1);
        let rules = rules.map(|rule| {
            let (_, expression) = rule.split_once("expr:").unwrap();
            let mut lines = expression.lines();
            let mut expression = lines.next().unwrap().trim().to_owned();
            if expression == ">-" {
                let more = lines.take_while(|line| line.starts_with("          "));
                expression = more.map(str::trim).collect::<Vec<_>>().join(" ");
            }
            let (_, runbook) = rule.split_once("runbook: deploy/runbooks/").unwrap();
            Self {
                name: rule.lines().next().unwrap().trim().to_owned(),
                expression,
                runbook: runbook.lines().next().unwrap().trim().to_owned(),
            }
        });
        rules.collect()
    }

    pub(super) fn named(name: &str) -> Self {
        let found = Self::all().into_iter().find(|alert| alert.name == name);
        found.unwrap_or_else(|| panic!("no alert {name}"))
    }

    /// Whether its expression holds, of the cluster or of any pod.
    pub(super) fn fires(&self, before: &Look, now: &Look) -> bool {
        let (left, sign, right) = [" == ", " > "]
            .iter()
            .find_map(|sign| {
                let (left, right) = self.expression.split_once(sign)?;
                Some((left, sign.trim(), right))
            })
            .expect("a comparison");
        let all: Vec<&String> = now.pods.keys().collect();
        let of_each = !left.contains(" by (") || left.contains("pod");
        let groups = match of_each {
            true => all.into_iter().map(|pod| vec![pod]).collect(),
            false => vec![all],
        };
        groups.into_iter().any(|pods| {
            let eyes = Eyes { before, now, pods };
            let (left, right) = (eyes.sum(left), eyes.sum(right));
            match sign {
                ">" => left > right,
                _ => left == right,
            }
        })
    }
}

// === impl Eyes ===

impl Eyes<'_> {
    fn sum(&self, text: &str) -> f64 {
        text.split(" + ").map(|term| self.term(term.trim())).sum()
    }

    fn term(&self, term: &str) -> f64 {
        if let Ok(number) = term.parse() {
            return number;
        }
        if let Some(rest) = term.strip_prefix("histogram_quantile(") {
            let (share, rest) = rest.split_once(',').unwrap();
            return self.quantile(share.parse().unwrap(), inside(inside(rest)));
        }
        if let Some(rest) = term.strip_prefix("max by (namespace) (") {
            let values = self.pods.iter();
            let metric = Selector::parse(rest.trim_end_matches(')'));
            let values = values.map(|pod| self.now.select(&metric, &[*pod]));
            return values.fold(0.0, f64::max);
        }
        if term.starts_with("sum by (") {
            return self.term(inside(term));
        }
        if let Some(rest) = term.strip_prefix("increase(") {
            return self.increase(&Selector::parse(before_range(rest)));
        }
        if let Some(rest) = term.strip_prefix("rate(") {
            let seconds = (self.now.at - self.before.at).as_secs_f64();
            return self.increase(&Selector::parse(before_range(rest))) / seconds.max(0.001);
        }
        assert!(
            !term.contains(['(', ')', '/']),
            "{term:?} is not known here"
        );
        self.now.select(&Selector::parse(term), &self.pods)
    }

    fn increase(&self, selector: &Selector) -> f64 {
        let of = |pod: &&String| {
            let known = self.before.pods.contains_key(*pod);
            let before = known.then(|| self.before.select(selector, &[*pod]));
            let now = self.now.select(selector, &[*pod]);
            // A counter that is lower than it was began anew.
            let before = before.filter(|before| *before <= now);
            now - before.unwrap_or(0.0)
        };
        self.pods.iter().map(of).sum()
    }

    /// Where `share` of the increase of a histogram's buckets lies: as Prometheus has it, evenly spread
    /// over its bucket, and at the last limit beyond all of them.
    fn quantile(&self, share: f64, rate: &str) -> f64 {
        let buckets = before_range(rate.trim_start_matches("rate("));
        let selector = Selector::parse(buckets);
        let mut limits: Vec<f64> = Vec::new();
        let lines = self
            .pods
            .iter()
            .filter_map(|pod| self.now.pods[*pod].as_ref());
        for (_, labels, _) in lines.flatten().filter(|line| selector.matches(line)) {
            let limit = labels.split("le=\"").nth(1).unwrap();
            limits.push(
                limit
                    .split('"')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap_or(f64::INFINITY),
            );
        }
        limits.sort_by(f64::total_cmp);
        limits.dedup();
        let up_to = |limit: f64| {
            let written = match limit.is_finite() {
                true => vec![format!("{limit}"), format!("{limit:?}")],
                false => vec!["+Inf".to_owned()],
            };
            let mut labels = selector.labels.clone();
            labels.push(("le".to_owned(), written));
            let metric = selector.metric.clone();
            self.increase(&Selector { metric, labels })
        };
        let rank = share * limits.last().map_or(0.0, |last| up_to(*last));
        let (mut below, mut counted) = (0.0, 0.0);
        for limit in limits {
            let here = up_to(limit);
            if rank > 0.0 && here >= rank {
                return match limit.is_finite() {
                    true => below + (limit - below) * (rank - counted) / (here - counted),
                    false => below,
                };
            }
            (below, counted) = (limit, here);
        }
        0.0
    }
}

/// What the last parentheses of `… (inside)` hold.
fn inside(text: &str) -> &str {
    let (_, rest) = text.split_once(") (").unwrap_or(("", text));
    rest.strip_suffix(')').unwrap_or(rest)
}

/// `metric{labels}` of `metric{labels}[5m])…`.
fn before_range(text: &str) -> &str {
    text.split('[').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn look(after: u64, pages: [&str; 2]) -> Look {
        let pods = ["a", "b"].into_iter().zip(pages);
        let lines = |page: &str| (!page.is_empty()).then(|| parse(page));
        Look {
            at: Instant::now() + Duration::from_secs(after),
            pods: pods
                .map(|(pod, page)| (pod.to_owned(), lines(page)))
                .collect(),
        }
    }

    fn fires(expression: &str, pages: [&str; 2]) -> bool {
        let alert = Alert {
            name: "a".to_owned(),
            expression: expression.to_owned(),
            runbook: String::new(),
        };
        alert.fires(&look(0, ["c 1\n", "c 2\n"]), &look(10, pages))
    }

    #[test]
    fn rules_are_read_as_prometheus_reads_them() {
        assert!(fires("g > 5", ["g 1", "g 6"]));
        assert!(!fires("g > 5", ["g 3", "g 4"]), "of each pod");
        assert!(fires("max by (namespace) (g) > 5", ["g 3", "g 6"]));
        assert!(!fires("max by (namespace) (g) > 5", ["g 3", "g 4"]));
        assert!(fires(
            "increase(c[1h]) + increase(d[1h]) > 0",
            ["c 1", "c 3"]
        ));
        assert!(!fires(
            "increase(c[1h]) + increase(d[1h]) > 0",
            ["c 1", "c 2"]
        ));
        assert!(fires("rate(c[5m]) > 1", ["c 1", "c 15"]));
        assert!(!fires("rate(c[5m]) > 1", ["c 1", "c 9"]));
        assert!(fires("up{job=\"headwater\"} == 0", ["", "c 2"]));
        assert!(!fires("up{job=\"headwater\"} == 0", ["c 1", "c 2"]));
        let more = "sum by (namespace) (rate(r{o=~\"X|Y\"}[5m])) \
                    > sum by (namespace) (rate(r{o=\"Z\"}[5m]))";
        assert!(fires(more, ["r{o=\"X\"} 2\nr{o=\"Z\"} 3", "r{o=\"Y\"} 2"]));
        assert!(!fires(more, ["r{o=\"X\"} 2\nr{o=\"Z\"} 4", "r{o=\"Y\"} 2"]));
        let slow = "histogram_quantile(0.99, sum by (namespace, le) \
                    (rate(h_bucket{operation=\"Put\"}[5m]))) > 2";
        let of = |fast: u32| {
            let line =
                |le: &str, n: u32| format!("h_bucket{{le=\"{le}\",operation=\"Put\"}} {n}\n");
            line("1.024", fast) + &line("2.048", fast) + &line("4.096", 100) + &line("+Inf", 100)
        };
        assert!(fires(slow, [&of(98), "c 2"]));
        assert!(!fires(slow, [&of(99), "c 2"]));
    }

    #[test]
    fn every_rule_is_read_and_its_page_names_it() {
        let alerts = Alert::all();
        assert!(alerts.len() > 15);
        for alert in alerts {
            assert!(!alert.expression.is_empty(), "{}", alert.name);
            let page = file(&format!("deploy/runbooks/{}", alert.runbook));
            let page = std::fs::read_to_string(page).unwrap();
            assert!(
                page.contains(&alert.name),
                "{} of {}",
                alert.name,
                alert.runbook
            );
        }
    }
}
