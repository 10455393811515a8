//! Calling for the first time, and what a failure then means for whoever starts the server.

use super::{
    SupabaseStore, Target,
    calls::{Call, Calls, Repetition},
    failure::Failure,
};
use crate::{OpenError, StoreConfig, migrations::NEEDED};

impl SupabaseStore {
    /// Makes sure that the project is there, lets us in, and has what this build needs.
    pub(crate) async fn open(target: Target, config: &StoreConfig) -> Result<Self, OpenError> {
        let calls = Calls::new(target, config)?;
        check_tables(&calls).await?;
        Ok(Self { calls })
    }
}

/// Asks for the version of the tables.
pub(super) fn version() -> Call {
    Call::new("duologue_schema_version", Repetition::Harmless)
}

async fn check_tables(calls: &Calls) -> Result<(), OpenError> {
    let target = calls.target();
    let answer: Result<Option<i64>, _> = calls.try_call(version()).await;
    match answer {
        // A newer schema is in order: migrations first add, and later take away.
        Ok(Some(version)) if version >= NEEDED => Ok(()),
        Ok(_) => Err(OpenError::SchemaOutOfDate {
            place: target.place(),
            schema: target.schema().to_owned(),
        }),
        Err(failure) => Err(open_error(target, failure)),
    }
}

fn open_error(target: &Target, failure: Failure) -> OpenError {
    let (place, schema) = (target.place(), target.schema().to_owned());
    let Failure::Refused(refusal) = &failure else {
        return match failure {
            Failure::Unreadable(_) | Failure::TooLarge => OpenError::NotSupabase {
                place,
                source: failure.into(),
            },
            _ => OpenError::SupabaseUnreachable {
                place,
                source: failure.into(),
            },
        };
    };
    match (refusal.status.as_u16(), refusal.code.as_str()) {
        (_, "PGRST106") => OpenError::SchemaNotExposed { place, schema },
        (_, "PGRST202" | "42883") => OpenError::FunctionsMissing { place, schema },
        (401 | 403, _) => OpenError::KeyRefused {
            place,
            source: failure.into(),
        },
        (408 | 425 | 429 | 500.., _) => OpenError::SupabaseUnreachable {
            place,
            source: failure.into(),
        },
        _ => OpenError::NotSupabase {
            place,
            source: failure.into(),
        },
    }
}
