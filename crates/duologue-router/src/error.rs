//! Why an agent's configuration is refused.

/// Why an agent's configuration is refused. Both variants are for its author.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It is not TOML, or has keys or values of the wrong form.
    #[error("the agent's configuration cannot be read")]
    Unreadable(#[source] toml::de::Error),
    /// A value is not allowed, or a tool that it names cannot be used.
    #[error("the agent's configuration is wrong at `{key}`: {problem}")]
    Invalid {
        /// Where, for example `routes.order_status.tool`.
        key: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
}
