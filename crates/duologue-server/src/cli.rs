//! The command line. The help that users read is made of the comments below.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use duologue_protocol::{IdError, SessionId, UserId};

use crate::config::FlagValue;

const EXAMPLES: &str = "\
Examples:
  duologue                        Serve on http://127.0.0.1:8000, sessions in duologue.db
  duologue serve --port 9000      Serve on another port
  duologue chat                   Talk to that server from another terminal
  duologue check                  See whether store and model can be reached, and what to do
  duologue config                 See all settings and where they came from

Settings come from the built-in defaults, a file (--config), .env, the environment and flags, the later
over the earlier. DUOLOGUE_SECTION__KEY sets any of them: DUOLOGUE_SERVER__PORT=9000. With
OPENAI_API_KEY or GROQ_API_KEY set, that model answers; without, a mock does.";

const CHAT_EXAMPLES: &str = "\
Examples:
  duologue chat                             The server on this machine
  duologue chat chat.example.com            Another, on port 8000
  duologue chat https://chat.example.com    Another, over TLS
  duologue chat --session trip-to-oslo      A session to come back to
  echo 'What is CO2?' | duologue chat       One question, one answer, no prompt
  DUOLOGUE_TOKEN=eyJ… duologue chat         As the user whose token this is

Ctrl-C stops a running answer, and otherwise leaves; so do /quit and the end of input.";

/// A realtime AI session server.
#[derive(Debug, Parser)]
#[command(name = "duologue", version, after_help = EXAMPLES)]
pub struct Cli {
    /// Configuration file, laid over the built-in defaults; also `DUOLOGUE_CONFIG`.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve clients until told to stop. The default.
    Serve(ServeArgs),
    /// Bring the database's tables up to date, and exit. SQLite files are, whenever they are served.
    Migrate,
    /// Try what is configured (store, model, agent), and say what works and what to do.
    Check,
    /// Check everything that is kept against the promises of this server; changes nothing.
    ///
    /// May run beside a server. Each breach is one line. Exit code 0: none; 1: some; 2: not everything
    /// could be checked.
    Verify,
    /// List the summaries that are due, done or failed, or have failed ones tried again.
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Ask the server on this machine whether it is alive.
    Health,
    /// Print all settings in force and where they came from, secrets hidden, and exit.
    Config,
    /// Make a token for an operator, and print it with the hash that the server is given.
    AdminToken,
    /// Talk to a server from this terminal.
    Chat(ChatArgs),
}

/// What to do about jobs. May be done beside a running server.
#[derive(Clone, Debug, Subcommand)]
pub enum JobsCommand {
    /// List jobs, oldest first.
    List {
        /// Only those that failed for good.
        #[arg(long)]
        failed: bool,
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Have a job tried again now, with all its attempts.
    Retry(WhichJobs),
}

/// The arguments of `duologue jobs retry`.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct WhichJobs {
    /// The number of the job, as `duologue jobs list` shows it.
    #[arg(value_name = "JOB")]
    pub job: Option<i64>,
    /// All that failed for good.
    #[arg(long)]
    pub all_failed: bool,
}

/// The flags of `duologue serve`.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArgs {
    /// Name or address to listen on; 0.0.0.0 is every interface [default: 127.0.0.1].
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Port to listen on; 0 takes any free one [default: 8000].
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The agent's file: prompt, routes and tools [default: the built-in agent].
    #[arg(long, value_name = "FILE")]
    agent: Option<String>,
}

/// The arguments of `duologue chat`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CHAT_EXAMPLES)]
pub struct ChatArgs {
    /// The server: `HOST[:PORT]`, `http(s)://…`, `ws(s)://…`, or a session's full WebSocket URL.
    #[arg(default_value = "ws://127.0.0.1:8000")]
    pub url: String,
    /// The session to go on with, or the name of a new one [default: a new one].
    #[arg(long, value_name = "ID", value_parser = session_id)]
    pub session: Option<SessionId>,
    /// Whose session it is [default: anonymous].
    #[arg(long, value_name = "ID", value_parser = user_id)]
    pub user: Option<UserId>,
    /// The file that has the token, where the server wants one; read again when a fresh one is wanted
    /// [default: the variable `DUOLOGUE_TOKEN`].
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl Cli {
    /// The command, which is `serve` where none is named.
    pub fn command(self) -> Command {
        let serve = Command::Serve(ServeArgs::default());
        self.command.unwrap_or(serve)
    }
}

impl ServeArgs {
    /// The settings that the flags make.
    pub fn into_flags(self) -> Vec<FlagValue> {
        let host = self.host.map(|host| FlagValue {
            flag: "--host",
            key: "server.host",
            value: host.into(),
        });
        let port = self.port.map(|port| FlagValue {
            flag: "--port",
            key: "server.port",
            value: i64::from(port).into(),
        });
        let agent = self.agent.map(|path| FlagValue {
            flag: "--agent",
            key: "agent.file",
            value: path.into(),
        });
        [host, port, agent].into_iter().flatten().collect()
    }
}

fn session_id(text: &str) -> Result<SessionId, IdError> {
    SessionId::new(text)
}

fn user_id(text: &str) -> Result<UserId, IdError> {
    UserId::new(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::{self, Environment};

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(line.split_whitespace()).unwrap()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves() {
        let cli = parse("duologue --config a.toml");
        assert_eq!(cli.config, Some("a.toml".into()));
        let Command::Serve(serve) = cli.command() else {
            panic!("it does something else");
        };
        assert_eq!(serve.into_flags(), []);
    }

    #[test]
    fn the_flags_of_serve_are_settings() {
        let cli = parse("duologue serve --host ::1 --port 9000 --agent a.toml --config b.toml");
        let Command::Serve(serve) = cli.command() else {
            panic!("it does something else");
        };
        let flags = serve.into_flags();
        let flags: Vec<_> = flags.iter().map(|flag| (flag.key, &flag.value)).collect();
        assert_eq!(
            flags,
            [
                ("server.host", &"::1".into()),
                ("server.port", &9000.into()),
                ("agent.file", &"a.toml".into()),
            ]
        );
    }

    /// The help repeats two defaults for who has not seen `config/default.toml`.
    #[test]
    fn the_help_tells_the_defaults_as_they_are() {
        let loaded = config::load(None, &Environment::default(), Vec::new()).unwrap();
        let server = loaded.config.server;
        let help = Cli::try_parse_from(["duologue", "serve", "--help"]).unwrap_err();
        for default in [server.host, server.port.to_string()] {
            let default = format!("[default: {default}]");
            assert!(help.to_string().contains(&default), "{default}");
        }
    }

    #[test]
    fn an_id_is_checked_before_anything_connects() {
        let error =
            Cli::try_parse_from(["duologue", "chat", "--session", "not valid"]).unwrap_err();
        assert!(error.to_string().contains("1 to 128 characters"), "{error}");
    }
}
