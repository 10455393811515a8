//! The agent: read from its file, or built in.

use duologue_router::RuleAgent;

use crate::{
    config::{AuthMode, Config},
    start_error::StartError,
};

/// The agent that answers where no other is configured.
const BUILTIN_AGENT: &str = include_str!("../../../config/agent.toml");

/// Reads the agent. The text says where it comes from.
pub(crate) fn read_agent(config: &Config) -> Result<(RuleAgent, String), StartError> {
    let (text, origin) = match &config.agent.file {
        None => (BUILTIN_AGENT.to_owned(), "built in".to_owned()),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| StartError::AgentFile {
                path: path.clone(),
                source,
            })?;
            (text, path.display().to_string())
        }
    };
    let tools = duologue_tools::builtin();
    let agent = match config.auth.mode {
        AuthMode::None => RuleAgent::from_toml_without_authentication(&text, &tools),
        AuthMode::Jwt | AuthMode::Supabase => RuleAgent::from_toml(&text, &tools),
    };
    match agent {
        Ok(agent) => Ok((agent, origin)),
        Err(source) => Err(StartError::Agent { origin, source }),
    }
}
