//! Whether credentials are a registry's: `docker login`.

use ureq::http::{Method, header};

use crate::{
    Cancel, Client, Config, Credentials, Error,
    auth::Challenges,
    client::{Ask, failure},
};

impl Client {
    /// Asks the registry `host` whether `credentials` are good. Returns a token to keep in place of the password, if
    /// the registry gives one.
    pub fn login(
        config: &Config,
        host: &str,
        credentials: Credentials,
        cancel: Cancel,
    ) -> Result<String, Error> {
        let client = Self::for_login(config, host, credentials, cancel)?;
        client.on_hosts(|host| {
            let url = format!("{}{}/", host.origin.text(), host.path);
            let mut stranger = Ask::new(Method::GET, url.clone());
            let first = client.exchange(host, &mut stranger, None)?;
            if first.status().is_success() {
                return Ok(String::new());
            }
            if first.status().as_u16() != 401 {
                return Err(failure(first));
            }
            let values = first.headers().get_all(header::WWW_AUTHENTICATE).into_iter();
            let challenges = Challenges::parse(values.filter_map(|value| value.to_str().ok()));
            let (proof, refresh) = match (challenges.bearer, client.credentials().basic()) {
                (Some(bearer), _) => {
                    let token = client.token(host, &bearer, client.credentials())?;
                    (format!("Bearer {}", token.text()), token.refresh_token)
                }
                (None, Some(basic)) if challenges.basic => (basic, String::new()),
                _ => return Err(failure(first)),
            };
            let answer = client.exchange(host, &mut Ask::new(Method::GET, url), Some(&proof))?;
            if answer.status().is_success() { Ok(refresh) } else { Err(failure(answer)) }
        })
    }
}
