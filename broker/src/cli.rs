//! The command line: one file per subcommand.

mod admin;
mod broker;
mod cluster;
mod config;
mod consume;
mod group;
mod object;
mod offline;
mod output;
mod produce;
mod remote;
mod serve;
mod settings;
mod time;
mod tls;
mod topic;
mod topic_move;
mod wal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A Kafka-compatible broker whose data lives in object storage.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a broker and its controller.
    Serve(serve::Arguments),
    /// Prints the effective configuration and where each value comes from.
    Config(config::Arguments),
    /// Makes, shows and changes topics.
    Topic(topic::TopicArgs),
    /// Shows and resets consumer groups.
    Group(group::GroupArgs),
    /// Sends lines of standard input as records.
    Produce(produce::ProduceArgs),
    /// Prints the records of a topic.
    Consume(consume::ConsumeArgs),
    /// Reads objects without a broker, and probes stores.
    Object(object::ObjectArgs),
    /// Reads write-ahead logs without a broker.
    Wal(wal::WalArgs),
    /// Lists, drains and resumes brokers.
    Broker(broker::BrokerArgs),
    /// Shows the cluster, changes its controllers, checks its checkpoints.
    Cluster(cluster::ClusterArgs),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Topic(arguments) => remotely(async |env| topic::run(env, arguments).await),
        Command::Group(arguments) => remotely(async |env| group::run(env, arguments).await),
        Command::Produce(arguments) => {
            remotely(async |env| produce::run(env, arguments, std::io::stdin()).await)
        }
        Command::Object(arguments) => remotely(async |env| object::run(env, arguments).await),
        Command::Wal(arguments) => remotely(async |env| wal::run(env, arguments).await),
        Command::Broker(arguments) => remotely(async |env| broker::run(env, arguments).await),
        Command::Cluster(arguments) => remotely(async |env| cluster::run(env, arguments).await),
        Command::Consume(arguments) => {
            remotely(async |env| consume::run(env, arguments, std::io::stdout().lock()).await)
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("headwater: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command that speaks to a cluster or a store.
fn remotely(
    command: impl AsyncFnOnce(&env::Env) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match runtime.block_on(command(&env::real::env())) {
        // Whoever reads our output may stop early, as `head` does.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        result => result.map(|()| ExitCode::SUCCESS),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    // Only our own output: a broken connection comes as an error of the client.
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_help_names_every_key() {
        Arguments::command().debug_assert();
        let mut command = Arguments::command();
        let serve = command.find_subcommand_mut("serve").unwrap();
        let help = serve.render_long_help().to_string();
        for key in crate::config::keys::all() {
            assert!(help.contains(key.name), "{}", key.name);
        }
    }
}
