"""Pages in the browser, served by Gradio: doors, which nobody imports but the commands that open them."""
