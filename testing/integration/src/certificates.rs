//! Certificates for a Postgres that speaks TLS, made by the `openssl` of the machine.

use std::{fs, path::Path};

use anyhow::Result;

use crate::child::{AtOurEnd, find, run, unprivileged};

/// The authority that has signed the server's certificate.
pub(crate) const AUTHORITY: &str = "authority";

/// Another authority, which has signed nothing.
pub(crate) const STRANGER: &str = "stranger";

/// What certificates are for. The server's is for the address, and for no name.
const SETTINGS: &str = "
[req]
distinguished_name = name
prompt = no
[name]
CN = duologue tests
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
";

/// Makes the two authorities and the server's certificate in the cluster's folder, and returns the
/// settings that make Postgres use it.
pub(crate) fn make(folder: &Path) -> Result<Vec<String>> {
    fs::write(folder.join("openssl.cnf"), SETTINGS)?;
    for authority in [AUTHORITY, STRANGER] {
        openssl(folder, authority, &["-extensions", "ca"])?;
    }
    let signed = ["-CA", "authority.crt", "-CAkey", "authority.key"];
    openssl(
        folder,
        "server",
        &[&["-extensions", "server"], &signed[..]].concat(),
    )?;
    let settings = [
        "ssl=on",
        "ssl_cert_file=server.crt",
        "ssl_key_file=server.key",
    ];
    Ok(settings.map(str::to_owned).to_vec())
}

/// Makes `NAME.key` and `NAME.crt`, as the user that Postgres runs as.
fn openssl(folder: &Path, name: &str, arguments: &[&str]) -> Result<()> {
    let mut command = unprivileged(&find("openssl", &[], "openssl")?, AtOurEnd::Leave);
    let request =
        "req -x509 -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    command
        .current_dir(folder)
        .args(request.split(' '))
        .args(["-keyout", &key, "-out", &certificate])
        .args(arguments);
    run(command)
}
