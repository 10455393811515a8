//! The binary `duologue`: reads the command line and the configuration, and runs the command.

use std::{
    env,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;

use duologue_server::{
    chat::{self, Colour, Input, Terminal},
    cli::{Cli, Command},
    config::{self, Environment, Loaded},
    telemetry,
};

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
            anyhow::bail!("serving is not wired up yet: {:?}", loaded.config.server)
        }
        Command::Migrate => {
            let loaded = start(load(Vec::new())?)?;
            anyhow::bail!("migrating is not wired up yet: {:?}", loaded.config.store)
        }
        Command::Config => {
            let loaded = load(Vec::new())?;
            for warning in &loaded.warnings {
                writeln!(io::stderr(), "duologue: {warning}")?;
            }
            Ok(write!(io::stdout(), "{}", loaded.settings)?)
        }
        Command::Chat(args) => {
            install_crypto();
            let terminal = terminal(&environment);
            Ok(chat::run(args, terminal, io::stdin(), io::stdout()).await?)
        }
    }
}

/// Starts logging, and logs what was noticed before.
fn start(loaded: Loaded) -> anyhow::Result<Loaded> {
    telemetry::start(&loaded.config.log)?;
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
