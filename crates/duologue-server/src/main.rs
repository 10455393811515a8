//! The binary `duologue`: reads the command line and the configuration, and runs the command.

use std::{
    env,
    error::Error,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use duologue_server::{
    NewAdminToken,
    application::{Application, Description},
    banner::Banner,
    bounded_write::write_bounded,
    chat::{self, Colour, Input, Terminal, Token},
    check,
    cli::{Cli, Command},
    config::{self, Config, Environment, Loaded},
    health_check, jobs_command, memory, panics, restored_command,
    shutdown::{IgnoredSignals, Signals},
    telemetry::{self, LogFlush},
    verify::{self, Verification},
};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let file = cli.config.clone();
    let command = cli.command().unwrap_or_else(|error| error.exit());
    match run(file, command).await {
        Ok(()) => ExitCode::SUCCESS,
        // Also if the output was closed: the lines that are missing may be violations.
        Err(error) if error.is::<NotVerified>() => {
            report(&error);
            ExitCode::from(2)
        }
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn report(error: &anyhow::Error) {
    // If stderr is closed, or a pipe that nobody reads, there is no other place to report to.
    let _ = write_bounded(io::stderr(), format!("duologue: {error:#}\n"));
}

/// The verification is incomplete, which is not the same as a violation.
#[derive(Debug)]
struct NotVerified;

impl std::fmt::Display for NotVerified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the verification is incomplete")
    }
}

async fn run(file: Option<PathBuf>, command: Command) -> anyhow::Result<()> {
    let directory = env::current_dir().context("there is no working directory")?;
    let environment = Environment::read(env::vars_os(), &directory)?;
    let load = |flags| config::load(file.as_deref(), &environment, flags);
    install_crypto();
    match command {
        Command::Serve(flags) => {
            let loaded = load(flags.into_flags())?;
            let _flush = start_log(&loaded)?;
            serve(&loaded.config).await
        }
        Command::Migrate => {
            let loaded = load(Vec::new())?;
            let _flush = start_log(&loaded)?;
            migrate(&loaded.config).await
        }
        Command::Check => check(&print_warnings(load(Vec::new())?)?).await,
        Command::Verify => {
            let loaded = load(Vec::new()).context(NotVerified)?;
            verify(&print_warnings(loaded)?.config).await
        }
        Command::Jobs(command) => {
            let loaded = print_warnings(load(Vec::new())?)?;
            Ok(jobs_command::run(&loaded.config.store, command, io::stdout()).await?)
        }
        Command::Restored => {
            let loaded = print_warnings(load(Vec::new())?)?;
            Ok(restored_command::run(&loaded.config.store, io::stdout()).await?)
        }
        Command::Health => {
            let address = health_check::run(&load(Vec::new())?.config.server).await?;
            Ok(writeln!(io::stdout(), "{address} is alive")?)
        }
        Command::Config => {
            let loaded = print_warnings(load(Vec::new())?)?;
            Ok(write!(io::stdout(), "{}", loaded.settings)?)
        }
        Command::AdminToken => admin_token(),
        Command::Chat(args) => {
            let terminal = terminal(&environment);
            let token = Token::new(args.token_file.clone(), environment.chat_token());
            Ok(chat::run(args, token, terminal, io::stdin(), io::stdout()).await?)
        }
    }
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    if !config.server.core_dumps {
        memory::disable_core_dumps().context("core dumps cannot be disabled")?;
    }
    let no_handlers = "the handlers of signals cannot be installed";
    // Before the server is ready, since they would end it while it starts.
    let ignored = IgnoredSignals::listen().context(no_handlers)?;
    let application = Application::build(config).await?;
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let signals = Signals::listen().context(no_handlers)?;
    let Description {
        store,
        model,
        agent,
        auth,
    } = application.description();
    let banner = Banner {
        address: application.address(),
        store,
        model,
        agent,
        auth,
    };
    if let Err(error) = write_bounded(io::stdout(), banner.to_string()) {
        // Nobody reads it, which is no reason not to serve.
        tracing::warn!(error = &error as &dyn Error, "banner.not_written");
    }
    tokio::select! {
        () = application.run(drain.clone(), stop.clone()) => Ok(()),
        never = signals.handle(drain, stop) => match never {},
        never = ignored.log() => match never {},
    }
}

async fn migrate(config: &Config) -> anyhow::Result<()> {
    let applied = duologue_store::migrate(&config.store).await?;
    let store = config.store.describe();
    let mut out = io::stdout();
    if applied.is_empty() {
        writeln!(out, "{store}: up to date, nothing to do")?;
    }
    for name in applied {
        writeln!(out, "{store}: applied {name}")?;
    }
    Ok(())
}

fn admin_token() -> anyhow::Result<()> {
    let NewAdminToken { token, hash } = NewAdminToken::random();
    let mut out = io::stdout();
    writeln!(out, "token  {token}")?;
    writeln!(out, "hash   {hash}")?;
    writeln!(out)?;
    Ok(writeln!(
        out,
        "Add the hash to auth.admin_tokens (DUOLOGUE_AUTH__ADMIN_TOKENS). The token is shown only \
         once; send it as `Authorization: Bearer`."
    )?)
}

async fn check(loaded: &Loaded) -> anyhow::Result<()> {
    let report = check::run(loaded).await;
    write!(io::stdout(), "{report}")?;
    match report.failures() {
        0 => Ok(()),
        1 => anyhow::bail!("1 check failed"),
        failures => anyhow::bail!("{failures} checks failed"),
    }
}

async fn verify(config: &Config) -> anyhow::Result<()> {
    let progress = io::stderr().is_terminal().then(io::stderr);
    let result = verify::run(&config.store, io::stdout(), progress).await;
    let Verification {
        sessions,
        violating,
        violations,
    } = result.context(NotVerified)?;
    if violations > 0 {
        let noun = if violations == 1 {
            "violation"
        } else {
            "violations"
        };
        anyhow::bail!("{violations} {noun} in {violating} of {sessions} sessions");
    }
    let store = config.store.describe();
    // On stderr, so that stdout has nothing but violations.
    Ok(writeln!(
        io::stderr(),
        "{store}: {sessions} sessions checked, no violations"
    )?)
}

/// Prints the warnings of a command that has no log.
fn print_warnings(loaded: Loaded) -> anyhow::Result<Loaded> {
    for warning in &loaded.warnings {
        writeln!(io::stderr(), "duologue: {warning}")?;
    }
    Ok(loaded)
}

/// Starts the log, and logs the warnings. Keep the result until the command is over.
fn start_log(loaded: &Loaded) -> anyhow::Result<LogFlush> {
    let flush = telemetry::start(&loaded.config.log)?;
    panics::log_from_now_on();
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(flush)
}

fn terminal(environment: &Environment) -> Terminal {
    let is_terminal = io::stdout().is_terminal();
    Terminal {
        input: if is_terminal && io::stdin().is_terminal() {
            Input::Typed
        } else {
            Input::Piped
        },
        colour: if is_terminal && !environment.is_set("NO_COLOR") {
            Colour::On
        } else {
            Colour::Off
        },
    }
}

/// Every TLS connection uses the default provider of the process.
fn install_crypto() {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    // It fails if one is installed already, which works too.
    let _ = provider.install_default();
}

/// `duologue config | head` closes the pipe early.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
