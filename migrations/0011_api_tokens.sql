-- Access tokens of the API's clients, so that a restart of the daemon ends none. A token itself stands nowhere:
-- `token_sha256` finds it again, and it is random enough that nobody can guess it from its hash. `secret_check` is a hash of
-- the client's secret under the token as its key: it shows that the secret has changed, and without the token nobody can
-- try secrets against it.
CREATE TABLE api_token (
    token_sha256 BLOB NOT NULL PRIMARY KEY CHECK (length(token_sha256) = 32),
    -- Of `api.clients`; empty for whoever may use the socket.
    client_id TEXT NOT NULL,
    secret_check BLOB NOT NULL CHECK (length(secret_check) = 32),
    issued_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
