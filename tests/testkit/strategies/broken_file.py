raise ValueError("this file cannot be imported")
