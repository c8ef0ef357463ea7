//! A private MariaDB, or MySQL where that is what is there, with a user `freshet` who may do everything, over TCP from
//! this machine.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Uid;
use sea_orm::{ConnectOptions, ConnectionTrait, Database};

use super::instance::Instance;
use super::ports::free_port;
use super::root::Root;

const SERVER: &str = "mariadbd";
const INSTALLER: &str = "mariadb-install-db";
const PACKAGE: &str = "mariadb-server";
/// MySQL's server, which also prepares its data.
const MYSQL: &str = "mysqld";

/// A server that starts removes what it takes for temporary tables of its last run, also those of another server in the same
/// folder, which crashes.
const TEMPORARY: &str = "tmp";

/// The server runs it at each start.
const USERS: &str = "\
CREATE USER IF NOT EXISTS `freshet`@`127.0.0.1` IDENTIFIED BY 'freshet';
GRANT ALL PRIVILEGES ON *.* TO `freshet`@`127.0.0.1` WITH GRANT OPTION;
";

/// A running MariaDB or MySQL server; killed and removed when dropped.
pub struct MariaDb {
    instance: Instance,
    port: u16,
    options: Vec<String>,
}

impl MariaDb {
    /// Whether this machine has the programs at all.
    pub fn is_installed() -> bool {
        let root = Root::of_environment();
        (root.find(SERVER).is_some() && root.find(INSTALLER).is_some()) || root.find(MYSQL).is_some()
    }

    /// Prepares a data folder and starts a server on a free port.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// The same with more of the server's options, e.g. `--innodb-buffer-pool-size=1G`; they win over ours.
    pub async fn start_with(options: &[String]) -> Result<Self> {
        let (instance, port) = (Instance::create("mariadb", Root::of_environment())?, free_port()?);
        let mut mariadb = Self { instance, port, options: options.to_vec() };
        mariadb.instance.folder().write("users.sql", USERS)?;
        mariadb.instance.folder().add(TEMPORARY)?;
        mariadb.install().await?;
        mariadb.launch().await?;
        Ok(mariadb)
    }

    /// `mysql://user:password@127.0.0.1:PORT`, without a database; stays the same over restarts.
    pub fn url(&self) -> String {
        format!("mysql://freshet:freshet@{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Shuts down in good order.
    pub async fn stop(&mut self) -> Result<()> {
        self.instance.stop().await
    }

    /// SIGKILL; what was committed is there after a restart.
    pub fn kill(&mut self) -> Result<()> {
        self.instance.kill()
    }

    /// Starts anew on the same port and data, after a SIGKILL where it still runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.instance.kill()?;
        self.launch().await
    }

    /// What it complained of, and the end of its log, as part of an error message.
    pub fn log_tail(&self) -> String {
        self.instance.log_tail()
    }

    /// Stops the server's clock: connections stay open, nothing is answered.
    pub fn freeze(&self) -> Result<()> {
        self.instance.freeze()
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) -> Result<()> {
        self.instance.thaw()
    }

    async fn install(&mut self) -> Result<()> {
        if self.is_mysql() {
            let mut command = self.command(MYSQL)?;
            command.arg("--initialize-insecure");
            return self.instance.prepare(command).await;
        }
        let mut command = self.command(INSTALLER)?;
        // By force, because it refuses where the machine's own name cannot be resolved.
        command.arg("--force");
        command.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]);
        self.instance.prepare(command).await
    }

    async fn launch(&mut self) -> Result<()> {
        let file = |option: &str, name: &str| format!("--{option}={}", self.instance.inside(name).display());
        let mut command = self.command(if self.is_mysql() { MYSQL } else { SERVER })?;
        command
            // Without it each login waits for a name server.
            .arg("--skip-name-resolve")
            .args(["--bind-address=127.0.0.1", &format!("--port={}", self.port)])
            .args([file("socket", "mariadb.sock"), file("pid-file", "mariadb.pid"), file("init-file", "users.sql")])
            .args(["--character-set-server=utf8mb4", "--max-connections=500", "--innodb-buffer-pool-size=128M"])
            // Commits survive SIGKILL of the server; only a crash of the machine would lose a second of them.
            .arg("--innodb-flush-log-at-trx-commit=2")
            .args(&self.options);
        let url = self.url();
        self.instance.launch(command, async || answers(&url).await).await
    }

    fn is_mysql(&self) -> bool {
        let root = self.instance.root();
        root.find(SERVER).is_none() && root.find(MYSQL).is_some()
    }

    fn command(&self, program: &str) -> Result<Command> {
        let root = self.instance.root();
        let mut command = root.command(root.require(program, PACKAGE)?);
        // It must come first.
        command.arg("--no-defaults");
        command.arg(format!("--datadir={}", self.instance.inside("data").display()));
        // The installer has no option for it.
        command.env("TMPDIR", self.instance.inside(TEMPORARY));
        if Uid::effective().is_root() {
            command.arg("--user=root");
        }
        Ok(command)
    }
}

async fn answers(url: &str) -> Result<()> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).connect_timeout(Duration::from_millis(500)).sqlx_logging(false);
    let connection = Database::connect(options).await.context("no connection")?;
    connection.execute_unprepared("SELECT 1").await.context("no answer to SELECT 1")?;
    connection.close().await.context("the connection does not close")
}
