//! Helm, the schemas of Kubernetes and our own checker: pinned, from Go's module proxy only.

use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context as _, bail};

use super::{CHART, GOLDEN, NAMESPACE, RELEASE, VALUES, files};
use crate::stage::{self, Program};

/// The pinned release of helm.
const HELM: &str = "v3.22.0";
/// The Kubernetes whose schemas hold, and its module's checksum.
const KUBERNETES: Module = Module {
    path: "k8s.io/kubernetes",
    version: "v1.36.3",
    sum: "h1:qDQdoMiluAE2Eab6Fa52YV+WjiGz9mZFFoagEA6cI+o=",
};
/// Whose custom resources the chart uses.
const OPERATOR: Module = Module {
    path: "github.com/prometheus-operator/prometheus-operator",
    version: "v0.85.0",
    sum: "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
};
const CUSTOM_RESOURCES: &[&str] = &["servicemonitors", "prometheusrules"];

/// Values whose pods are also run, as processes of this machine, and what is set besides.
const REHEARSED: &[(&str, &str)] = &[
    ("single.yaml", ""),
    ("combined.yaml", ""),
    // A voter more than one shows that they go one at a time.
    ("minimal.yaml", "controllers.replicas=3"),
];

/// A module that is read, not built.
struct Module {
    path: &'static str,
    version: &'static str,
    sum: &'static str,
}

/// Everything installed.
pub(super) struct Tools {
    helm: PathBuf,
    check: PathBuf,
    kubernetes: PathBuf,
    operator: PathBuf,
    headwater: PathBuf,
}

impl Tools {
    /// Installs what is not there. Cold, helm's compilation is the longest part by far.
    pub(super) fn install() -> anyhow::Result<Self> {
        let proxy = proxy()?;
        let headwater = ["build", "--locked", "--package", "broker"];
        stage::cargo(&headwater)
            .args(&["--bin", "headwater"])
            .run()?;
        Ok(Self {
            helm: install_helm(&proxy)?,
            check: build_check(&proxy)?,
            kubernetes: KUBERNETES.download(&proxy)?,
            operator: OPERATOR.download(&proxy)?,
            headwater: stage::target().join("debug").join("headwater"),
        })
    }

    /// `helm lint --strict` with one values file.
    pub(super) fn lint(&self, values: &Path) -> anyhow::Result<()> {
        let mut helm = stage::program(&self.helm);
        helm.args(&["lint", "--strict", "--quiet", CHART]);
        helm.args(&["--kube-version", KUBERNETES.version, "--namespace"]);
        helm.args(&[NAMESPACE, "--values", &values.display().to_string()]);
        output(&mut helm).map(|_| ())
    }

    /// What `helm template` makes of one values file.
    pub(super) fn template(&self, values: &Path, more: &[&str]) -> anyhow::Result<String> {
        let mut helm = stage::program(&self.helm);
        helm.args(&["template", RELEASE, CHART, "--namespace", NAMESPACE]);
        helm.args(&["--kube-version", KUBERNETES.version]);
        helm.args(&["--values", &values.display().to_string()]);
        helm.args(more);
        String::from_utf8(output(&mut helm)?).context("helm's output is no UTF-8")
    }

    /// The rendering of `values`, with `more` set, that is rehearsed.
    fn rehearsed(&self, values: &str, more: &str) -> anyhow::Result<String> {
        if more.is_empty() {
            return Ok(format!("{GOLDEN}/{values}"));
        }
        let rendered = self.template(&Path::new(VALUES).join(values), &["--set", more])?;
        let file = stage::tools().join(format!("rehearsed-{values}"));
        std::fs::write(&file, rendered)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file.display().to_string())
    }

    /// Holds rendered manifests, and everything else in deploy/, against schemas and product.
    pub(super) fn check(&self, manifests: &[PathBuf]) -> anyhow::Result<()> {
        let schemas = self.kubernetes.join("api/openapi-spec/swagger.json");
        let mut check = stage::program(&self.check);
        check.args(&["-openapi", &schemas.display().to_string()]);
        for kind in CUSTOM_RESOURCES {
            let name = format!("example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml");
            check.args(&["-crd", &self.operator.join(name).display().to_string()]);
        }
        check.args(&["-headwater", &self.headwater.display().to_string()]);
        check.args(&["-containerfile", "deploy/Containerfile"]);
        check.args(&["-namespace", NAMESPACE]);
        check.args(&["-adapter", "deploy/helm/prometheus-adapter.values.yaml"]);
        for (values, more) in REHEARSED {
            check.args(&["-rehearse", &self.rehearsed(values, more)?]);
        }
        check.args(&["-compose", "deploy/compose.yaml"]);
        check.args(&["-rules", "deploy/helm/headwater/files/alerts.yaml"]);
        for example in files("deploy/examples/three-nodes", "toml")? {
            check.args(&["-settings", &relative(&example)]);
        }
        for source in ["broker/src", "controller/src", "storage/src", "wal/src"] {
            check.args(&["-source", source]);
        }
        for folder in [
            "deploy",
            "deploy/examples/three-nodes",
            "deploy/helm/headwater",
            "deploy/runbooks",
        ] {
            for document in files(folder, "md")? {
                check.args(&["-document", &relative(&document)]);
            }
        }
        for manifest in manifests {
            check.args(&[relative(manifest)]);
        }
        check.run()
    }
}

fn relative(path: &Path) -> String {
    let below = path.strip_prefix(stage::root()).unwrap_or(path);
    below.display().to_string()
}

impl Module {
    /// Brings it into Go's module cache and says where it lies there.
    fn download(&self, proxy: &str) -> anyhow::Result<PathBuf> {
        let named = format!("{}@{}", self.path, self.version);
        let mut download = go(&["mod", "download", "-json", &named], proxy);
        let answer: serde_json::Value = serde_json::from_slice(&output(&mut download)?)?;
        let field = |name: &str| answer[name].as_str().unwrap_or_default().to_string();
        if field("Sum") != self.sum {
            bail!("{named} has the checksum {:?}, not its own", field("Sum"));
        }
        Ok(PathBuf::from(field("Dir")))
    }
}

/// The module proxy only, never a repository directly.
fn proxy() -> anyhow::Result<String> {
    let mut env = stage::program("go");
    let answer = String::from_utf8(output(env.args(&["env", "GOPROXY"]))?)?;
    Ok(answer.trim().trim_end_matches(",direct").to_string())
}

fn go(arguments: &[&str], proxy: &str) -> Program {
    let mut go = stage::program("go");
    go.args(arguments);
    go.env("GOPROXY", proxy).env("GOTOOLCHAIN", "local");
    go.env("GOFLAGS", "-buildvcs=false");
    go
}

fn install_helm(proxy: &str) -> anyhow::Result<PathBuf> {
    let folder = stage::tools().join(format!("helm-{HELM}"));
    let binary = folder.join("helm");
    if binary.exists() {
        return Ok(binary);
    }
    println!("installing helm {HELM} into {}", folder.display());
    let named = format!("helm.sh/helm/v3/cmd/helm@{HELM}");
    // Unoptimised: a fifth less to compile, and it renders in a fraction of a second all the same.
    go(&["install", "-gcflags=all=-N -l", &named], proxy)
        .env("GOBIN", &folder)
        .run()?;
    Ok(binary)
}

/// Our own checker, with its own tests first.
fn build_check(proxy: &str) -> anyhow::Result<PathBuf> {
    let binary = stage::tools().join("headwater-deploy-check");
    let folder = stage::root().join("deploy/check");
    let inside = |arguments: &[&str]| {
        let mut program = go(arguments, proxy);
        program.command().current_dir(&folder);
        program.run()
    };
    inside(&["vet", "-mod=readonly", "./..."])?;
    inside(&["test", "-mod=readonly", "./..."])?;
    inside(&[
        "build",
        "-mod=readonly",
        "-o",
        &binary.display().to_string(),
        ".",
    ])?;
    Ok(binary)
}

/// Standard output; on failure, what it said on standard error.
fn output(program: &mut Program) -> anyhow::Result<Vec<u8>> {
    let Output {
        status,
        stdout,
        stderr,
    } = program
        .command()
        .output()
        .context("cannot start a program")?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        let also = String::from_utf8_lossy(&stdout);
        bail!("{}{}", said.trim(), also.trim());
    }
    Ok(stdout)
}
