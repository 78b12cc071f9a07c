"""What alembic runs: the steps, in one transaction, on the connection that it was given."""

from alembic import context

from plancast.pipelines.master.tables import VERSION_TABLE, begin, metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=metadata, version_table=VERSION_TABLE,
    version_table_pk=False,
)  # fmt: skip
begin(connection)
try:
    context.run_migrations()
except BaseException:
    connection.exec_driver_sql("ROLLBACK")
    raise
connection.exec_driver_sql("COMMIT")
