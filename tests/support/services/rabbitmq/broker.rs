//! How a broker is told to keep to its folder, its ports and the loopback interface.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::super::instance::Instance;
use super::super::ports::free_port;
use super::super::root::Root;
use crate::environment;

/// The package's own script. The one in /usr/sbin switches to another user first.
const SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

pub(super) struct Broker {
    pub(super) instance: Instance,
    pub(super) amqp_port: u16,
    pub(super) management_port: u16,
    distribution_port: u16,
    epmd_port: u16,
}

impl Broker {
    /// Its statistics are as old as `interval` at most.
    pub(super) fn create(epmd_port: u16, interval: Duration) -> Result<Self> {
        let broker = Self {
            instance: Instance::create("rabbitmq", Root::of_environment())?,
            amqp_port: free_port()?,
            management_port: free_port()?,
            distribution_port: free_port()?,
            epmd_port,
        };
        let milliseconds = interval.as_millis();
        broker.instance.folder().write("rabbitmq.conf", &broker.configuration(milliseconds))?;
        // Quorum queues have a clock of their own, and no key for it in the other file.
        let advanced = format!("[{{rabbit, [{{quorum_tick_interval, {milliseconds}}}]}}].\n");
        broker.instance.folder().write("advanced.config", &advanced)?;
        broker.instance.folder().write("enabled_plugins", "[rabbitmq_management].\n")?;
        Ok(broker)
    }

    fn configuration(&self, statistics: u128) -> String {
        let (amqp, management) = (self.amqp_port, self.management_port);
        format!(
            "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
             management.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {management}\n\
             collect_statistics_interval = {statistics}\n\
             disk_free_limit.absolute = 50MB\n"
        )
    }

    pub(super) fn command(&self) -> Result<Command> {
        let (root, folder) = (self.instance.root(), self.instance.inside(""));
        let script =
            find_server(root).context("RabbitMQ is not installed: install the package rabbitmq-server")?;
        Ok(self.surrounded(root.command(script), &folder))
    }

    /// A command of `rabbitmqctl` to this broker.
    pub(super) fn control(&self, arguments: &[&str]) -> Result<Command> {
        let (root, folder) = (self.instance.root(), self.instance.inside(""));
        let beside = find_server(root).and_then(|server| Some(server.parent()?.join("rabbitmqctl")));
        let script = beside.context("RabbitMQ is not installed: install the package rabbitmq-server")?;
        let mut command = self.surrounded(root.command(script), &folder);
        command.arg("--node").arg(self.node()).args(arguments);
        Ok(command)
    }

    /// Whether all these quorum queues of the virtual host `/` have their names on disk.
    pub(super) fn has_written_down(&self, queues: &[String]) -> Result<bool> {
        let file = format!("quorum/{}/names.dets", self.node());
        let names =
            std::fs::read(self.instance.path().join(file)).context("the broker has no quorum queues")?;
        let is_there = |queue: &String| {
            let name = format!("%2F_{queue}");
            names.windows(name.len()).any(|window| window == name.as_bytes())
        };
        Ok(queues.iter().all(is_there))
    }

    fn node(&self) -> String {
        format!("freshet-{}@localhost", self.amqp_port)
    }

    fn surrounded(&self, mut command: Command, folder: &Path) -> Command {
        // Nothing of a broker that the machine may run for itself.
        command.env_clear();
        command
            .env("PATH", environment::optional("PATH").unwrap_or_else(|| "/usr/bin:/bin".to_owned()))
            .env("LANG", "C.UTF-8")
            // Here Erlang keeps its cookie.
            .env("HOME", folder)
            // The script then becomes the broker instead of waiting for it as another process.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("RABBITMQ_NODENAME", self.node())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            .env("RABBITMQ_LOGS", "-")
            .env("ERL_CRASH_DUMP_SECONDS", "0");
        let paths = [
            ("RABBITMQ_CONF_ENV_FILE", "rabbitmq-env.conf"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
            ("RABBITMQ_CONFIG_FILES", "conf.d"),
            ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
            ("RABBITMQ_PLUGINS_EXPAND_DIR", "plugins"),
            ("RABBITMQ_FEATURE_FLAGS_FILE", "feature_flags"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_MNESIA_BASE", "mnesia"),
            ("RABBITMQ_MNESIA_DIR", "mnesia/node"),
            ("RABBITMQ_QUORUM_DIR", "quorum"),
            ("RABBITMQ_PID_FILE", "rabbitmq.pid"),
        ];
        command.envs(paths.map(|(variable, file)| (variable, folder.join(file))));
        command
    }
}

pub(super) fn find_server(root: &Root) -> Option<PathBuf> {
    // A tarball or another distribution has it in the PATH.
    root.packaged(SCRIPT).or_else(|| root.find("rabbitmq-server"))
}
