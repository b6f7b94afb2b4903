//! What the commands of a page do to pods that are processes. A command that is not known here
//! fails the rehearsal: a page may only say what somebody has tried.

use super::pods::{BROKER, CONTROLLER, Pods, clean};
use crate::cluster::output;

/// What a command printed.
pub(super) struct Told {
    pub(super) ok: bool,
    pub(super) text: String,
}

impl Told {
    fn done(text: impl Into<String>) -> Self {
        Self {
            ok: true,
            text: text.into(),
        }
    }
}

impl From<std::process::Output> for Told {
    fn from(output: std::process::Output) -> Self {
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        Self {
            ok: output.status.success(),
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    }
}

/// Where the admin listener is in a pod, and its volume.
const ADMIN: &str = "127.0.0.1:9644";
const VOLUME: &str = "/var/lib/headwater/data";

/// Runs a line.
pub(super) fn run(pods: &mut Pods, line: &str) -> Told {
    println!("$ {line}");
    let words = split(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let told = match &words[..] {
        ["kubectl", "-n", "kafka", rest @ ..] | ["kubectl", rest @ ..] => kubectl(pods, rest),
        ["helm", "upgrade", "headwater", rest @ ..] => upgrade(pods, rest),
        ["curl", "-s", url] => {
            let path = url
                .strip_prefix(&format!("http://{ADMIN}"))
                .expect("an admin page");
            Told::done(pods.page(path))
        }
        _ => panic!("{line:?} is not known here"),
    };
    println!("{}", told.text.trim_end());
    told
}

/// Runs a line that begins with `headwater`: beside the volume of `pod`, which is stopped.
pub(super) fn beside(pods: &Pods, pod: &str, line: &str) -> Told {
    println!("$ {line}");
    let data = pods.data(pod).display().to_string();
    let words: Vec<String> = split(&line.replace(VOLUME, &data));
    assert_eq!(words[0], "headwater");
    output(clean().args(&words[1..])).into()
}

/// Words as a shell makes them, of the quotes that pages use.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (c, quote) {
            (_, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            (_, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn kubectl(pods: &mut Pods, words: &[&str]) -> Told {
    match words {
        ["exec", pod, "--", "headwater", arguments @ ..] => {
            let admin = pods.admin(pod).to_string();
            let arguments = arguments.iter().map(|word| word.replace(ADMIN, &admin));
            pods.exec(pod, &arguments.collect::<Vec<_>>()).into()
        }
        // What only reads.
        ["get", "pods" | "pods,pvc" | "pv", ..] | ["get", "pvc", _] | ["top", "pod", ..] => {
            let of = |name: &String| format!("{name} {:?} {}", pods.pid(name), pods.is_ready(name));
            Told::done(pods.names().iter().map(of).collect::<Vec<_>>().join("\n"))
        }
        ["describe", "pod", pod] => Told::done(format!("{pod} {:?}", pods.pid(pod))),
        ["logs", pod, "--tail=100"] => {
            let log = pods.log(pod);
            assert!(!log.is_empty(), "{pod} has logged nothing");
            Told::done("")
        }
        // The StatefulSet makes it anew.
        ["delete", "pod", pod, "--force", "--grace-period=0"] => {
            if pods.pid(pod).is_some() {
                pods.kill_9(pod);
            }
            pods.start(pod);
            Told::done("")
        }
        ["rollout", "restart", "statefulset", set] => {
            for pod in pods.of_set(set) {
                restart(pods, &pod);
            }
            Told::done("")
        }
        ["rollout", "status", "statefulset", set] => {
            pods.await_ready(&pods.of_set(set));
            Told::done("")
        }
        ["patch", "pvc", claim, "--type", "merge", "-p", patch] => {
            assert!(patch.contains(r#""storage":"20Gi""#), "{patch}");
            let pod = claim.strip_prefix("data-").expect("the claim of a pod");
            pods.space(pod, None);
            Told::done("")
        }
        // Its pods stay; there is nothing else of it here.
        ["delete", "statefulset", set, "--cascade=orphan"] => {
            assert!(!pods.of_set(set).is_empty());
            Told::done("")
        }
        _ => panic!("kubectl {words:?} is not known here"),
    }
}

/// A pod of a StatefulSet whose template changed.
fn restart(pods: &mut Pods, pod: &str) {
    pods.stop(pod);
    pods.start(pod);
    pods.await_ready(&[pod.to_owned()]);
}

/// Pods of another tag, from the partition on, are made anew: newest first, both sets at once in
/// truth, one after the other here.
fn upgrade(pods: &mut Pods, words: &[&str]) -> Told {
    let given = |key: &str| {
        let key = format!("{key}=");
        words
            .iter()
            .find_map(|word| word.strip_prefix(key.as_str()))
    };
    let Some(tag) = given("image.tag") else {
        return Told::done("");
    };
    for (set, key) in [
        (CONTROLLER, "controllers.updatePartition"),
        (BROKER, "brokers.updatePartition"),
    ] {
        let from: i32 = given(key).map_or(0, |from| from.parse().unwrap());
        for pod in pods.of_set(set) {
            if pods.node(&pod) >= from && pods.tag(&pod) != tag {
                restart(pods, &pod);
                pods.set_tag(&pod, tag);
            }
        }
    }
    Told::done("")
}

#[test]
fn words_are_a_shells() {
    let line = r#"a --b "c d" '{"e":"f g"}' h=i"#;
    assert_eq!(split(line), ["a", "--b", "c d", r#"{"e":"f g"}"#, "h=i"]);
}
