"""Steps from one shape of the store's tables to the next, by alembic; each start of the service takes what is due."""
