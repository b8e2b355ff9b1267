"""The documented surface of the client, a room for each kind of call. Imports the engines; is put together in ``async_client``."""
