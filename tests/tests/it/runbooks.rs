//! Each runbook of `deploy/runbooks`, rehearsed on real processes.
//!
//! ```text
//!  trouble ─▶ the metrics and alerts that the page names ─▶ its commands, word for word ─▶ records
//! ```
//!
//! Commands, metrics, alerts and log lines are taken from the page itself; what a rehearsal leaves
//! out of it fails, and so does what it expects there in vain. Pods are processes, and `kubectl` and
//! `helm` do to them what they do to pods (`shell`).

mod alerts;
mod book;
mod brokers;
mod controllers;
mod disks;
mod logs;
mod pods;
mod scene;
mod shell;
mod stores;
mod upgrades;
