//! The command line. clap makes the help from the comments below.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use duologue_protocol::{IdError, SessionId, UserId};

use crate::config::FlagValue;

const EXAMPLES: &str = "\
Examples:
  duologue                        Serve on http://127.0.0.1:8000, sessions in duologue.db
  duologue --port 9000            Serve on another port
  duologue chat                   Chat with that server from another terminal
  duologue check                  Test the store, the model and the agent
  duologue config                 Print all settings and where they come from

Settings come from the built-in defaults, a file (--config), .env, the environment and flags; each
overrides those before it. DUOLOGUE_SECTION__KEY sets any of them: DUOLOGUE_SERVER__PORT=9000. With
OPENAI_API_KEY or GROQ_API_KEY set, that provider's model answers; otherwise a mock model does.";

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
    /// Configuration file, which overrides the built-in defaults; also `DUOLOGUE_CONFIG`.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The flags of `serve`, which is the default command.
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve clients until the process is stopped (the default command).
    Serve(ServeArgs),
    /// Migrate the database and exit (`serve` migrates SQLite files automatically).
    Migrate,
    /// Test the configured store, model, agent and authentication, and say how to fix what fails.
    Check,
    /// Check the stored sessions for violated invariants. Changes nothing.
    ///
    /// May run while a server is running. Prints one line per violation. Exit code 0: no violations;
    /// 1: some; 2: not everything could be checked.
    Verify,
    /// List summary jobs, or retry failed ones.
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Mark the stored sessions as restored from a backup: run it after restoring one.
    Restored,
    /// Check that the server on this machine is alive.
    Health,
    /// Print all settings and where they come from, with secrets hidden, and exit.
    Config,
    /// Generate an operator's token, and print it with its hash for the configuration.
    AdminToken,
    /// Chat with a server from this terminal.
    Chat(ChatArgs),
}

/// The commands about jobs. They may run while a server is running.
#[derive(Clone, Debug, Subcommand)]
pub enum JobsCommand {
    /// List jobs, oldest first.
    List {
        /// Only jobs that have failed permanently.
        #[arg(long)]
        failed: bool,
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Retry a job now, with all its attempts.
    Retry(JobSelection),
}

/// The arguments of `duologue jobs retry`.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct JobSelection {
    /// The number of the job, from `duologue jobs list`.
    #[arg(value_name = "JOB")]
    pub job: Option<i64>,
    /// All jobs that have failed permanently.
    #[arg(long)]
    pub all_failed: bool,
}

/// The flags of `duologue serve`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct ServeArgs {
    /// Host name or address to listen on; 0.0.0.0 is every interface [default: 127.0.0.1].
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Port to listen on; 0 chooses a free one [default: 8000].
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Agent file: prompt, routes and tools [default: the built-in agent].
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
    /// The command, which is `serve` if none is named. Flags of `serve` before another command are an
    /// error.
    pub fn command(self) -> Result<Command, clap::Error> {
        match self.command {
            None => Ok(Command::Serve(self.serve)),
            Some(Command::Serve(serve)) => Ok(Command::Serve(serve.or(self.serve))),
            Some(command) if self.serve == ServeArgs::default() => Ok(command),
            Some(_) => Err(Self::command_line().error(
                ErrorKind::ArgumentConflict,
                "--host, --port and --agent are flags of `duologue serve`; leave them out, or set \
                 HOST, PORT or DUOLOGUE_AGENT__FILE",
            )),
        }
    }

    fn command_line() -> clap::Command {
        <Self as CommandFactory>::command()
    }
}

impl ServeArgs {
    /// These flags, and those of `earlier` that are not among them.
    fn or(self, earlier: Self) -> Self {
        Self {
            host: self.host.or(earlier.host),
            port: self.port.or(earlier.port),
            agent: self.agent.or(earlier.agent),
        }
    }

    /// The settings of the flags.
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
        let Ok(Command::Serve(serve)) = cli.command() else {
            panic!("another command");
        };
        assert_eq!(serve.into_flags(), []);
    }

    #[test]
    fn the_flags_of_serve_are_settings_with_and_without_its_name() {
        for line in [
            "duologue serve --host ::1 --port 9000 --agent a.toml --config b.toml",
            "duologue --host ::1 --port 9000 --agent a.toml --config b.toml",
            "duologue --host ::1 --port 1 serve --port 9000 --agent a.toml",
        ] {
            let Ok(Command::Serve(serve)) = parse(line).command() else {
                panic!("another command");
            };
            let flags = serve.into_flags();
            let flags: Vec<_> = flags.iter().map(|flag| (flag.key, &flag.value)).collect();
            assert_eq!(
                flags,
                [
                    ("server.host", &"::1".into()),
                    ("server.port", &9000.into()),
                    ("agent.file", &"a.toml".into()),
                ],
                "{line}"
            );
        }
    }

    #[test]
    fn a_flag_of_serve_before_another_command_is_refused() {
        let error = parse("duologue --port 9000 migrate").command().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
        assert!(parse("duologue --config a.toml migrate").command().is_ok());
    }

    /// The help repeats two defaults of `config/default.toml`.
    #[test]
    fn the_help_has_the_right_defaults() {
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
