"""What alembic runs: the steps, on the connection that it was given."""

from alembic import context

from seqdiffrec.serving.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
