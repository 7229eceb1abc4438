"""All or nothing writes over several DynamoDB tables, through a journal that is finished whatever crashes."""

__version__ = "0.1.0"
