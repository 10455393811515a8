//! The binary `duologue`: reads the command line and the configuration, and runs the command.

use std::{
    env,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use duologue_server::{
    app::{Application, Description},
    banner::Banner,
    chat::{self, Colour, Input, Terminal},
    check,
    cli::{Cli, Command},
    config::{self, Config, Environment, Loaded},
    memory, panics, probe,
    shutdown::Signals,
    telemetry,
};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to report to if this fails.
            let _ = writeln!(io::stderr(), "duologue: {error:#}");
            ExitCode::FAILURE
        }
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
                memory::keep_private().context("the memory cannot be kept private")?;
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
        Command::Health => {
            let loaded = load(Vec::new())?;
            let address = probe::ask(&loaded.config.server).await?;
            Ok(writeln!(io::stdout(), "{address} is alive")?)
        }
        Command::Config => {
            let loaded = warn(load(Vec::new())?)?;
            Ok(write!(io::stdout(), "{}", loaded.settings)?)
        }
        Command::Chat(args) => {
            install_crypto();
            let terminal = terminal(&environment);
            Ok(chat::run(args, terminal, io::stdin(), io::stdout()).await?)
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
    } = application.description();
    let banner = Banner {
        address: application.address(),
        store,
        model,
        agent,
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
