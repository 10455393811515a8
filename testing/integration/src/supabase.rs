//! A Supabase project as far as we need one: a database with its roles and its `auth` schema, a real
//! PostgREST, and the gateway in front.

use anyhow::{Context, Result};
use duologue_store::StoreConfig;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::{
    fault_proxy::FaultProxy,
    jwt::Secret,
    postgres::{Cluster, Database, execute},
    postgrest::PostgRest,
    store::config,
};

/// A secret key of the newer kind. It stands for the role `service_role`.
pub const SECRET_KEY: &str = "sb_secret_of_the_tests";

/// A publishable key. It stands for the role `anon`.
pub const PUBLISHABLE_KEY: &str = "sb_publishable_of_the_tests";

/// When tokens expire: 2100-01-01.
const EXPIRY_SECOND: i64 = 4_102_444_800;

/// What Supabase has in every database, as far as our tables and PostgREST meet it: the roles, which
/// the whole cluster shares; the schema `auth`; and rights on all that will ever be in `public`,
/// which is why our migrations take rights away.
const SETUP: &str = "
select pg_advisory_lock(20261121);
do $$
declare
    attributes constant jsonb := '{
        \"anon\": \"nologin\", \"authenticated\": \"nologin\",
        \"service_role\": \"nologin bypassrls\", \"authenticator\": \"login noinherit\"
    }';
    name text;
begin
    for name in select jsonb_object_keys(attributes) loop
        begin
            execute format('create role %I %s', name, attributes ->> name);
        exception when duplicate_object or unique_violation then null;
        end;
    end loop;
end $$;
alter role service_role bypassrls;
grant anon, authenticated, service_role to authenticator;
select pg_advisory_unlock(20261121);

create schema auth;
grant usage on schema auth, public to anon, authenticated, service_role;
-- Who pastes into the SQL editor is `postgres`, who is no superuser; here it is the owner.
grant usage on schema auth to duologue;
create function auth.uid() returns uuid language sql stable as $$
    select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
$$;
alter default privileges for role duologue in schema public
    grant all on tables to anon, authenticated, service_role;
alter default privileges for role duologue in schema public
    grant all on functions to anon, authenticated, service_role;
alter default privileges for role duologue in schema public
    grant all on sequences to anon, authenticated, service_role;
";

static TEMPLATE: OnceCell<Database> = OnceCell::const_new();

/// A project of a test's own.
#[derive(Debug)]
pub struct Project {
    /// The gateway, which fails on request.
    pub gateway: FaultProxy,
    secret: Secret,
    _postgrest: PostgRest,
    /// Last, so that PostgREST disconnects first.
    database: Database,
}

impl Project {
    /// A project that has our tables.
    pub async fn new() -> Self {
        let template = TEMPLATE.get_or_init(async || {
            let database = Self::bare_database().await;
            let migrated = duologue_store::migrate(&config(&database.url())).await;
            migrated.expect("the migrations suit a Supabase database");
            database
        });
        let database = Cluster::get().await.database_like(template.await).await;
        Self::on(database, "public").await
    }

    /// A database as a new project has it: without our tables.
    pub async fn bare_database() -> Database {
        let database = Cluster::get().await.empty_database().await;
        let mut connection = database.connect_as_superuser().await;
        execute(&mut connection, SETUP).await;
        database
    }

    /// A project whose REST interface shows `schemas` of this database.
    pub async fn on(database: Database, schemas: &str) -> Self {
        let project = Self::start(database, schemas).await;
        project.unwrap_or_else(|error| panic!("{error:#}"))
    }

    async fn start(database: Database, schemas: &str) -> Result<Self> {
        let secret = Secret::random();
        let postgrest = PostgRest::start(&database, schemas, &secret).await?;
        let opaque_keys = vec![
            (SECRET_KEY.to_owned(), token(&secret, "service_role", None)),
            (PUBLISHABLE_KEY.to_owned(), token(&secret, "anon", None)),
        ];
        let gateway = FaultProxy::start(postgrest.url(), opaque_keys).await;
        Ok(Self {
            gateway: gateway.context("starting the gateway")?,
            secret,
            _postgrest: postgrest,
            database,
        })
    }

    /// Its database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Its URL, as in `SUPABASE_URL`.
    pub fn url(&self) -> String {
        self.gateway.url()
    }

    /// The legacy key of `service_role`.
    pub fn service_role_key(&self) -> String {
        token(&self.secret, "service_role", None)
    }

    /// The legacy key of `anon`.
    pub fn anon_key(&self) -> String {
        token(&self.secret, "anon", None)
    }

    /// The token of a signed-in user, whose id must be a UUID.
    pub fn user_token(&self, user: &str) -> String {
        token(&self.secret, "authenticated", Some(user))
    }

    /// Settings for the store in this project.
    pub fn config(&self, key: &str) -> StoreConfig {
        StoreConfig {
            supabase_url: self.url(),
            supabase_key: key.into(),
            ..config("auto")
        }
    }
}

fn token(secret: &Secret, role: &str, user: Option<&str>) -> String {
    let mut claims = json!({ "iss": "supabase", "role": role, "exp": EXPIRY_SECOND });
    if let Some(user) = user {
        claims["sub"] = user.into();
        claims["aud"] = "authenticated".into();
    }
    secret.sign(&claims)
}
