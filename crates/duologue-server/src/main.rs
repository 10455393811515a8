//! The binary `duologue`: reads the command line and the configuration, and runs the command.

use std::{
    env,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use duologue_server::{
    NewAdminToken,
    application::{Application, Description},
    banner::Banner,
    chat::{self, Colour, Input, Terminal, Token},
    check,
    cli::{Cli, Command},
    config::{self, Config, Environment, Loaded},
    health_check, jobs_command, memory, panics,
    shutdown::Signals,
    telemetry, verify,
};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        // Also where the output was closed: what was not told may be a breach.
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
    // There is nowhere left to report to if this fails.
    let _ = writeln!(io::stderr(), "duologue: {error:#}");
}

/// Nobody knows whether an invariant is broken; which must not be taken for one that is.
#[derive(Debug)]
struct NotVerified;

impl std::fmt::Display for NotVerified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("could not check")
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let directory = env::current_dir().context("there is no working directory")?;
    let environment = Environment::read(env::vars_os(), &directory)?;
    let file = cli.config.clone();
    let load = |flags| config::load(file.as_deref(), &environment, flags);
    match cli.command() {
        Command::Serve(serve) => {
            let loaded = start(load(serve.into_flags())?)?;
            if !loaded.config.server.core_dumps {
                memory::disable_core_dumps().context("core dumps cannot be disabled")?;
            }
            install_crypto();
            serve_until_told_to_stop(&loaded.config).await
        }
        Command::Migrate => {
            let loaded = start(load(Vec::new())?)?;
            install_crypto();
            migrate(&loaded.config).await
        }
        Command::Check => {
            let loaded = warn(load(Vec::new())?)?;
            install_crypto();
            check(&loaded).await
        }
        Command::Verify => {
            let loaded = load(Vec::new()).context(NotVerified)?;
            let loaded = warn(loaded)?;
            install_crypto();
            verify(&loaded.config).await
        }
        Command::Jobs(command) => {
            let loaded = warn(load(Vec::new())?)?;
            install_crypto();
            Ok(jobs_command::run(&loaded.config.store, command, io::stdout()).await?)
        }
        Command::Health => {
            let loaded = load(Vec::new())?;
            let address = health_check::run(&loaded.config.server).await?;
            Ok(writeln!(io::stdout(), "{address} is alive")?)
        }
        Command::Config => {
            let loaded = warn(load(Vec::new())?)?;
            Ok(write!(io::stdout(), "{}", loaded.settings)?)
        }
        Command::AdminToken => {
            let NewAdminToken { token, hash } = NewAdminToken::random();
            let mut out = io::stdout();
            writeln!(out, "token  {token}")?;
            writeln!(out, "hash   {hash}")?;
            writeln!(out)?;
            Ok(writeln!(
                out,
                "Add the hash to auth.admin_tokens (DUOLOGUE_AUTH__ADMIN_TOKENS). The token is shown \
                 this once; send it as `Authorization: Bearer`."
            )?)
        }
        Command::Chat(args) => {
            install_crypto();
            let terminal = terminal(&environment);
            let token = Token::new(args.token_file.clone(), environment.chat_token());
            Ok(chat::run(args, token, terminal, io::stdin(), io::stdout()).await?)
        }
    }
}

async fn serve_until_told_to_stop(config: &Config) -> anyhow::Result<()> {
    let application = Application::build(config).await?;
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let signals = Signals::listen().context("signals cannot be listened to")?;
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
    write!(io::stdout(), "{banner}")?;
    io::stdout().flush()?;
    tokio::select! {
        () = application.run(drain.clone(), stop.clone()) => Ok(()),
        never = signals.obey(drain, stop) => match never {},
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

async fn check(loaded: &Loaded) -> anyhow::Result<()> {
    let report = check::run(loaded).await;
    write!(io::stdout(), "{report}")?;
    match report.failures() {
        0 => Ok(()),
        1 => anyhow::bail!("1 part does not work"),
        failures => anyhow::bail!("{failures} parts do not work"),
    }
}

async fn verify(config: &Config) -> anyhow::Result<()> {
    let progress = io::stderr().is_terminal().then(io::stderr);
    let verdict = verify::run(&config.store, io::stdout(), progress).await;
    let verify::Verdict {
        sessions,
        broken,
        findings,
    } = verdict.context(NotVerified)?;
    if findings > 0 {
        let breaches = if findings == 1 { "breach" } else { "breaches" };
        anyhow::bail!("{findings} {breaches} in {broken} of {sessions} sessions");
    }
    let store = config.store.describe();
    // For people; what comes by the other way is findings only.
    Ok(writeln!(
        io::stderr(),
        "{store}: {sessions} sessions checked, all in order"
    )?)
}

/// Says what was noticed, where no log is kept.
fn warn(loaded: Loaded) -> anyhow::Result<Loaded> {
    for warning in &loaded.warnings {
        writeln!(io::stderr(), "duologue: {warning}")?;
    }
    Ok(loaded)
}

/// Starts logging, and logs what was noticed before.
fn start(loaded: Loaded) -> anyhow::Result<Loaded> {
    telemetry::start(&loaded.config.log)?;
    panics::log_from_now_on();
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(loaded)
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

/// Whoever connects over TLS uses this, and expects it to be there.
fn install_crypto() {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    // It fails where one is installed already, which does as well.
    let _ = provider.install_default();
}

/// `duologue config | head` closes the pipe when it has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
